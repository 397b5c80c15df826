/** The node-level baseline as text: the rules of node and tunnel, and the halves of a pod network. */
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { nodeChains } from '../../../src/bench/geneve/node-rules.ts';
import { halves } from '../../../src/bench/geneve/pods.ts';
import type { Chain } from '../../../src/bench/geneve/ruleset.ts';
import { tunnelChains } from '../../../src/bench/geneve/tunnel-rules.ts';

const GOLDEN = join(import.meta.dirname, '../../golden/geneve');

function rendered(chains: readonly Chain[]): string {
  const lines = chains.flatMap(({ table, hook, name, rules }) => [`# ${table} ${hook}`, ...rules.map((rule) => `-A ${name} ${rule}`)]);
  return `${lines.join('\n')}\n`;
}

test('the rules are those of the layout', async () => {
  await expect(rendered(nodeChains('10.244.1.1'))).toMatchFileSnapshot(join(GOLDEN, 'node.rules'));
  await expect(rendered(tunnelChains())).toMatchFileSnapshot(join(GOLDEN, 'tunnel.rules'));
});

test.each([
  ['10.244.1.0/24', ['10.244.1.0/25', '10.244.1.128/25']],
  ['10.77.0.0/16', ['10.77.0.0/17', '10.77.128.0/17']],
  ['0.0.0.0/0', ['0.0.0.0/1', '128.0.0.0/1']],
  ['192.168.126.0/30', ['192.168.126.0/31', '192.168.126.2/31']],
  ['192.168.126.0/31', []],
  ['192.168.125.2', []],
  ['default', []],
])('halves of %s', (network, expected) => {
  expect(halves(network)).toEqual(expected);
});

test('the halves of a network are all of it: same start, the second where the first ends', () => {
  const number = (address: string): number => address.split('.').reduce((sum, byte) => sum * 256 + Number(byte), 0);
  fc.assert(
    fc.property(fc.nat({ max: 2 ** 32 - 1 }), fc.integer({ min: 0, max: 30 }), (any, bits) => {
      const size = 2 ** (32 - bits);
      const start = Math.floor(any / size) * size;
      const dotted = [24, 16, 8, 0].map((shift) => Math.floor(start / 2 ** shift) % 256).join('.');
      const [first, second] = halves(`${dotted}/${String(bits)}`).map((half) => half.split('/'));
      expect([first![1], second![1]]).toEqual([String(bits + 1), String(bits + 1)]);
      expect([number(first![0]!), number(second![0]!)]).toEqual([start, start + size / 2]);
    }),
  );
});
