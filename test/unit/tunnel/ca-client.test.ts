/** The CA client against a real gRPC server over TLS: what it asks, and what becomes of every kind of answer. */
import { create } from '@bufbuild/protobuf';
import { status, type sendUnaryData, type ServerUnaryCall } from '@grpc/grpc-js';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createLogger } from '../../../src/base/log.ts';
import {
  IstioCertificateResponseSchema,
  type IstioCertificateRequest,
  type IstioCertificateResponse,
} from '../../../src/proto/certificate_pb.js';
import { ControlPlaneChannel } from '../../../src/rpc/channel.ts';
import { createCertificate } from '../../../src/rpc/services.ts';
import { CaClient } from '../../../src/tunnel/ca-client.ts';
import { createLocalCa, LocalCaIssuer } from '../../../src/tunnel/local-ca.ts';
import { obtainCertificate } from '../../../src/tunnel/workload-certificate.ts';
import { startServer, type ControlPlaneServer } from '../../support/control-plane/server.ts';

type Call = ServerUnaryCall<IstioCertificateRequest, IstioCertificateResponse>;
type Answer = { certChain: string[] } | { code: status; details: string } | 'never';

const WEB = 'spiffe://cluster.local/ns/shop/sa/web';
const OTHER = 'spiffe://cluster.local/ns/shop/sa/other';
const HOUR_MS = 3600_000;
const log = createLogger('test', 'silent');
const dir = mkdtempSync(join(tmpdir(), 'cvt-tun-ca-'));
const foreignDir = mkdtempSync(join(tmpdir(), 'cvt-tun-ca-'));
const tokenFile = join(dir, 'token');
const ca = new LocalCaIssuer(dir);
let server: ControlPlaneServer;
let channel: ControlPlaneChannel;
let calls: Call[];
let respond: (request: IstioCertificateRequest) => Promise<Answer> | Answer;

/** What the CA of a directory would answer. */
async function signed(request: IstioCertificateRequest, identity = WEB, by = ca): Promise<{ leaf: string; root: string }> {
  const { chain, roots } = await by.sign({ identity, csr: request.csr, lifetimeMs: HOUR_MS });
  return { leaf: chain[0]!, root: roots[0]! };
}

beforeAll(async () => {
  await Promise.all([createLocalCa(dir), createLocalCa(foreignDir, { name: 'a foreign CA' })]);
  writeFileSync(tokenFile, 'who-we-are\n');
  const handler = (call: Call, callback: sendUnaryData<IstioCertificateResponse>): void => {
    calls.push(call);
    void (async () => {
      const answer = await respond(call.request);
      if (answer === 'never') return;
      if ('code' in answer) callback(answer);
      else callback(null, create(IstioCertificateResponseSchema, answer));
    })();
  };
  server = await startServer([{ definition: createCertificate, handler }]);
  channel = new ControlPlaneChannel({ address: server.address, rootCert: server.rootFile, tokenFile, clusterId: 'Kubernetes' }, log);
});
afterAll(async () => {
  channel.close();
  await server.stop();
  for (const one of [dir, foreignDir]) rmSync(one, { recursive: true });
});
beforeEach(() => {
  calls = [];
});

async function refusal(answer: typeof respond): Promise<{ code: string; retryable: boolean; text: string }> {
  respond = answer;
  const error = await obtainCertificate(new CaClient(channel, 2000), WEB, HOUR_MS).then(
    () => new Error('it was taken'),
    (reason: unknown) => reason as Error & { code: string; retryable: boolean },
  );
  const { code, retryable } = error as Error & { code: string; retryable: boolean };
  return { code, retryable, text: `${error.message}: ${String(error.cause)}` };
}

describe('request', () => {
  it('reaches the CA also when its roots are exchanged while the token is read', async () => {
    const rootCert = join(dir, 'roots.pem');
    writeFileSync(rootCert, readFileSync(server.rootFile));
    const own = new ControlPlaneChannel({ address: server.address, rootCert, tokenFile, clusterId: 'Kubernetes' }, log);
    respond = async (request) => {
      const { leaf, root } = await signed(request);
      return { certChain: [leaf, root] };
    };
    const slow = {
      client: () => own.client(),
      metadata: async () => {
        await own.client();
        writeFileSync(rootCert, `# rotated\n${readFileSync(server.rootFile, 'utf8')}`);
        await own.client(); // of another request
        return own.metadata();
      },
    };
    await expect(obtainCertificate(new CaClient(slow), WEB, HOUR_MS)).resolves.toMatchObject({ identity: WEB });
    own.close();
  });

  it('asks for the identity in its stead, says who we are, and takes leaf and root', async () => {
    respond = async (request) => {
      const { leaf, root } = await signed(request);
      return { certChain: [leaf, root] };
    };
    const certificate = await obtainCertificate(new CaClient(channel), WEB, 90_000);
    expect(certificate.identity).toBe(WEB);
    const [call] = calls;
    expect(call?.request.metadata).toEqual({ ImpersonatedIdentity: WEB });
    expect(call?.request.validityDuration).toBe(90n);
    expect(call?.request.csr).toContain('BEGIN CERTIFICATE REQUEST');
    expect(call?.metadata.get('authorization')).toEqual(['Bearer who-we-are']);
    expect(call?.metadata.get('clusterid')).toEqual(['Kubernetes']);
  });

  it('takes several roots out of the last string, as during a rotation', async () => {
    const { roots } = await new LocalCaIssuer(foreignDir).sign({ identity: WEB, csr: await aRequest(), lifetimeMs: HOUR_MS });
    respond = async (request) => {
      const { leaf, root } = await signed(request);
      return { certChain: [leaf, `# old\n${roots[0]!}\n# new\n${root}`] };
    };
    const certificate = await obtainCertificate(new CaClient(channel), WEB, HOUR_MS);
    expect(certificate.chain).toHaveLength(1);
    expect(certificate.roots).toHaveLength(2);
  });
});

describe('answers that are refused', () => {
  it.each<[string, typeof respond, RegExp]>([
    ['nothing', () => ({ certChain: [] }), /holds no certificate/],
    ['no root', async (request) => ({ certChain: [(await signed(request)).leaf] }), /no root/],
    ['garbage', async (request) => ({ certChain: ['what?', (await signed(request)).root] }), /part 1 of 2 holds no PEM certificate/],
    [
      'PEM of garbage',
      async (request) => ({ certChain: [`-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----`, (await signed(request)).root] }),
      /use the answer/,
    ],
    ['too much', async (request) => ({ certChain: ['x'.repeat(300_000), (await signed(request)).root] }), /300\d{3} characters/],
    [
      'a long chain',
      async (request) => {
        const { leaf, root } = await signed(request);
        return { certChain: [leaf, root.repeat(20), root] };
      },
      /its chain has 21 certificates/,
    ],
    [
      'another identity',
      async (request) => {
        const { leaf, root } = await signed(request, OTHER);
        return { certChain: [leaf, root] };
      },
      /it is for spiffe:\/\/cluster\.local\/ns\/shop\/sa\/other/,
    ],
    [
      'another key',
      async () => {
        const { leaf, root } = await signed({ csr: await aRequest() } as IstioCertificateRequest);
        return { certChain: [leaf, root] };
      },
      /not for our key/,
    ],
    [
      'the chain of another root',
      async (request) => {
        const { leaf } = await signed(request, WEB, new LocalCaIssuer(foreignDir));
        return { certChain: [leaf, (await signed(request)).root] };
      },
      /certificate 1 of its chain is signed by nobody in it/,
    ],
  ])('%s', async (_, answer, why) => {
    const { code, retryable, text } = await refusal(answer);
    expect(text).toMatch(why);
    expect(code).toBe('CERTIFICATE');
    expect(retryable).toBe(false); // nothing that an outage would explain
  });
});

describe('errors', () => {
  it.each([
    [status.PERMISSION_DENIED, 'pod is not on this node', false],
    [status.UNAUTHENTICATED, 'token expired', true],
    [status.UNAVAILABLE, 'starting', true],
  ])('carry status %d and its text', async (code, details, retryable) => {
    const error = await refusal(() => ({ code, details }));
    expect(error.text).toContain(`${status[code]}: ${details}`);
    expect(error.text).toContain(WEB);
    expect(error).toMatchObject({ code: 'CERTIFICATE', retryable });
  });

  it('end the wait for a CA that does not answer', async () => {
    respond = () => 'never';
    const error = await new CaClient(channel, 50).sign({ identity: WEB, csr: '', lifetimeMs: 1 }).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'CERTIFICATE', retryable: true, message: expect.stringContaining('DEADLINE_EXCEEDED') as string });
  });

  it('name the token that cannot be read', async () => {
    const missing = new ControlPlaneChannel(
      { address: server.address, rootCert: server.rootFile, tokenFile: '/nonexistent', clusterId: '' },
      log,
    );
    const error = await new CaClient(missing).sign({ identity: WEB, csr: '', lifetimeMs: 1 }).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'CERTIFICATE', message: expect.stringContaining('/nonexistent') as string });
    missing.close();
  });
});

/** Somebody else's. */
async function aRequest(): Promise<string> {
  let csr = '';
  const keep = { sign: (request: { csr: string }) => ((csr = request.csr), Promise.reject(new Error('only looked at'))) };
  await obtainCertificate(keep, WEB, HOUR_MS).catch(() => undefined);
  return csr;
}
