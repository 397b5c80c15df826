/** Responses framed by hand, read by the protobuf library. */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { encodeResponse } from '../../../../src/control/ads/response.ts';
import { ResourceStore } from '../../../../src/control/resource-store.ts';
import { DeltaDiscoveryResponseSchema, ResourceSchema } from '../../../../src/proto/discovery_pb.js';
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from '../../../../src/rpc/services.ts';

it('is what the library would have written', () => {
  // Around 127 and 16383 bytes a length needs one byte more.
  const resource = fc.record({ name: fc.string(), version: fc.constantFrom('v', 'x'.repeat(118), 'x'.repeat(130), 'x'.repeat(16_400)) });
  fc.assert(
    fc.property(fc.array(resource), fc.array(fc.string({ minLength: 1 })), fc.string(), (resources, removed, nonce) => {
      const messages = resources.map((one) => create(ResourceSchema, one));
      const bytes = encodeResponse({
        ...{ typeUrl: ADDRESS_TYPE, nonce, systemVersion: '7', removed },
        resources: messages.map((one) => toBinary(ResourceSchema, one)),
      });
      const expected = create(DeltaDiscoveryResponseSchema, {
        ...{ typeUrl: ADDRESS_TYPE, nonce, systemVersionInfo: '7', removedResources: removed, resources: messages },
      });
      expect(toBinary(DeltaDiscoveryResponseSchema, fromBinary(DeltaDiscoveryResponseSchema, bytes))).toEqual(
        toBinary(DeltaDiscoveryResponseSchema, expected),
      );
    }),
  );
});

it('resources carry type, content, name and aliases; versions tell contents and types apart', () => {
  const store = new ResourceStore();
  store.apply('address', [{ name: 'a', message: Buffer.from('m'), aliases: ['/10.0.0.1', '/fd00::1'] }], []);
  store.apply('authorization', [{ name: 'a', message: Buffer.from('m') }], []);
  const [address, policy] = [store.get('address', 'a')!, store.get('authorization', 'a')!];
  const read = fromBinary(ResourceSchema, address.bytes);
  expect(read).toMatchObject({
    name: 'a',
    version: address.version,
    aliases: ['/10.0.0.1', '/fd00::1'],
    resource: { typeUrl: ADDRESS_TYPE },
  });
  expect(Buffer.from(read.resource!.value).toString()).toBe('m');
  expect(fromBinary(ResourceSchema, policy.bytes).resource?.typeUrl).toBe(AUTHORIZATION_TYPE);
  expect(policy.version).not.toBe(address.version);
  expect(address.version).toMatch(/^[0-9a-f]{16}$/);
});
