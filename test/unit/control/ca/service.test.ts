import { X509Certificate } from 'node:crypto';
import { connect as tlsConnect } from 'node:tls';
import { status } from '@grpc/grpc-js';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { CulvertError } from '../../../../src/base/errors.ts';
import type { Authenticator, Caller } from '../../../../src/control/authenticator.ts';
import { Authority } from '../../../../src/control/ca/authority.ts';
import { CA_CERT, CA_KEY, readMaterial } from '../../../../src/control/ca/material.ts';
import { certificateService } from '../../../../src/control/ca/service.ts';
import { ServingCertificate, servingNames } from '../../../../src/control/ca/serving-certificate.ts';
import { ControlServer } from '../../../../src/control/server.ts';
import { createRoot } from '../../../../src/identity/root.ts';
import { obtainCertificate } from '../../../../src/tunnel/workload-certificate.ts';
import { CaClient, type Ask } from '../../../support/ca/client.ts';
import { SetInventory } from '../../../support/ca/inventory.ts';
import { recordingLog } from '../../../support/ca/log.ts';
import { freshRequest } from '../../../support/csr.ts';

const WEB = 'spiffe://cluster.local/ns/shop/sa/web';
const TUNNEL_A: Caller = { namespace: 'istio-system', serviceAccount: 'ztunnel', pod: { name: 'ztunnel-a', uid: 'u-a' } };
const callers: Record<string, Caller> = {
  a: TUNNEL_A,
  lab: { namespace: 'istio-system', serviceAccount: 'ztunnel', node: 'node-a' },
  web: { namespace: 'shop', serviceAccount: 'web', pod: { name: 'web-1', uid: 'u-1' } },
};
const ZTUNNEL_A = { namespace: 'istio-system', name: 'ztunnel-a', uid: 'u-a', node: 'node-a', serviceAccount: 'ztunnel' };
const WEB_1 = { namespace: 'shop', name: 'web-1', uid: 'u-1', node: 'node-a', serviceAccount: 'web' };

const known: Authenticator = {
  async authenticate(token) {
    if (token === 'down') throw new CulvertError('KUBERNETES', 'create tokenreviews: connect ECONNREFUSED');
    if (token === 'bug') throw new TypeError('undefined is not a function');
    const caller = callers[token];
    if (caller === undefined) throw new CulvertError('UNAUTHENTICATED', 'accept token: it has expired');
    return caller;
  },
};

const materialOf = async (name: string) => {
  const root = await createRoot({ name });
  return readMaterial(name, { [CA_CERT]: root.certificate, [CA_KEY]: root.key });
};

const first = await materialOf('first');
const authority = new Authority(first, { maxLifetimeMs: 48 * 3600_000 });
const inventory = new SetInventory();
const { log, lines } = recordingLog();
const csr = (await freshRequest()).csr;
const lookup = vi.fn(async (_namespace: string, name: string) => name === 'late');
let serving: ServingCertificate;
let server: ControlServer;
let port: number;
let client: CaClient;

beforeAll(async () => {
  serving = await ServingCertificate.obtain({ authority, names: servingNames('culvert-control', 'culvert-system', 'cluster.local'), log });
  const policy = { trustDomain: 'cluster.local', trustedNodeAccounts: new Set(['istio-system/ztunnel']) };
  const service = certificateService({
    authority,
    authenticator: known,
    policy,
    inventory,
    changes: inventory.changes,
    lookup,
    log,
    behindMs: 400,
  });
  server = new ControlServer({ address: '127.0.0.1:0', methods: [service], tls: serving, log });
  port = await server.start();
  client = new CaClient(port, authority.roots);
});
afterAll(async () => {
  client.close();
  serving.close();
  await server.close(1000);
});
beforeEach(() => {
  lines.length = 0;
  lookup.mockClear();
  inventory.set({ pods: [ZTUNNEL_A, WEB_1], accounts: ['shop/web', 'istio-system/ztunnel'] });
});

describe('CreateCertificate', () => {
  it('gives a node the identity of a pod on it: leaf first, roots last, good for what was asked', async () => {
    const { certChain } = await client.ask({ token: 'a', csr, identity: WEB, seconds: 600 });
    expect(certChain).toHaveLength(2);
    const leaf = new X509Certificate(certChain[0]!);
    expect(leaf.subjectAltName).toBe(`URI:${WEB}`);
    expect(certChain[1]).toBe(first.roots);
    const seconds = (leaf.validToDate.getTime() - Date.now()) / 1000;
    expect(seconds).toBeGreaterThan(590);
    expect(seconds).toBeLessThanOrEqual(600);
    expect(lookup).not.toHaveBeenCalled();
  });

  it('gives everybody the own identity, a day long unless asked otherwise', async () => {
    const { certChain } = await client.ask({ token: 'web', csr });
    const leaf = new X509Certificate(certChain[0]!);
    expect(leaf.subjectAltName).toBe(`URI:${WEB}`);
    expect((leaf.validToDate.getTime() - Date.now()) / 3600_000).toBeCloseTo(24, 1);
  });

  it('answers what the tunnel verifies', async () => {
    const issuer = {
      sign: async ({ identity, csr: request, lifetimeMs }: { identity: string; csr: string; lifetimeMs: number }) => {
        const { certChain } = await client.ask({ token: 'a', csr: request, identity, seconds: lifetimeMs / 1000 });
        return { chain: certChain.slice(0, -1), roots: certChain.slice(-1) };
      },
    };
    expect((await obtainCertificate(issuer, WEB, 60_000)).identity).toBe(WEB);
  });

  it('takes the word of a token that vouches for its node', async () => {
    inventory.set({ pods: [WEB_1] });
    const { certChain } = await client.ask({ token: 'lab', csr, identity: WEB });
    expect(new X509Certificate(certChain[0]!).subjectAltName).toBe(`URI:${WEB}`);
  });

  it.each([
    ['no token', { csr: '' }, status.UNAUTHENTICATED, 'needs one header'],
    ['a bad token', { token: 'x', csr: '' }, status.UNAUTHENTICATED, 'it has expired'],
    ['nobody to ask about tokens', { token: 'down', csr: '' }, status.UNAVAILABLE, 'ECONNREFUSED'],
    [
      'no node account',
      { token: 'web', csr, identity: WEB },
      status.PERMISSION_DENIED,
      'account shop/web may not ask for other identities',
    ],
    ['no identity', { token: 'a', csr, identity: 'spiffe://x' }, status.INVALID_ARGUMENT, 'no identity of a workload'],
    ['no text', { token: 'a', csr, identity: 7 }, status.INVALID_ARGUMENT, 'ImpersonatedIdentity is no text'],
    [
      'another trust domain',
      { token: 'a', csr, identity: 'spiffe://other.local/ns/shop/sa/web' },
      status.PERMISSION_DENIED,
      'its trust domain is other.local, ours is cluster.local',
    ],
    [
      'a pod of another node',
      { token: 'a', csr, identity: 'spiffe://cluster.local/ns/shop/sa/other' },
      status.PERMISSION_DENIED,
      'no pod of account shop/other is on node node-a',
    ],
    ['a bad request', { token: 'a', csr: 'garbage', identity: WEB }, status.INVALID_ARGUMENT, '0 PEM certificate requests'],
    [
      'too long a life',
      { token: 'a', csr, identity: WEB, seconds: 48 * 3600 + 1 },
      status.INVALID_ARGUMENT,
      '172801 s is asked for, 172800 s are allowed',
    ],
    ['far too long a life', { token: 'a', csr, identity: WEB, seconds: 2 ** 53 }, status.INVALID_ARGUMENT, 's is asked for'],
  ] as [string, Ask, status, string][])('%s is refused with the reason, and logged once with the caller', async (_name, ask, code, why) => {
    const error = await client.refusal(ask);
    expect(status[error.code]).toBe(status[code]);
    expect(error.details).toContain(why);
    expect(lines.map(({ msg, status: said }) => ({ msg, said }))).toEqual([{ msg: error.details, said: status[code] }]);
    if (callers[ask.token ?? ''] !== undefined) expect(lines[0]).toMatchObject({ caller: callers[ask.token ?? ''] });
  });

  it('does not repeat an identity that is longer than any, neither to the caller nor in the log', async () => {
    for (const token of ['a', 'web']) {
      const error = await client.refusal({ token, csr, identity: WEB.padEnd(5_000_000, 'x') });
      expect(error).toMatchObject({ code: status.INVALID_ARGUMENT, details: 'read request: ImpersonatedIdentity has 5000000 characters' });
    }
    expect(JSON.stringify(lines).length).toBeLessThan(2000);
  });

  it('keeps what went wrong inside it to itself', async () => {
    const error = await client.refusal({ token: 'bug', csr });
    expect(error).toMatchObject({ code: status.INTERNAL, details: 'internal error' });
    expect(lines).toMatchObject([{ msg: 'undefined is not a function' }]);
  });

  it('waits a moment for what the cluster has not told yet', async () => {
    inventory.set({ pods: [] });
    inventory.asked = 0;
    const asked = client.ask({ token: 'a', csr, identity: WEB });
    await vi.waitFor(() => expect(inventory.asked).toBeGreaterThan(0));
    inventory.set({ pods: [{ ...ZTUNNEL_A, uid: 'u-before' }] });
    inventory.set({ pods: [ZTUNNEL_A] });
    expect(inventory.asked).toBeGreaterThan(2);
    inventory.set({ pods: [ZTUNNEL_A, WEB_1] });
    expect((await asked).certChain).toHaveLength(2);
  });

  it('asks the API for an account that the state does not know', async () => {
    const late = 'spiffe://cluster.local/ns/shop/sa/late';
    inventory.set({ pods: [ZTUNNEL_A, { ...WEB_1, serviceAccount: 'late' }, { ...WEB_1, name: 'w2', serviceAccount: 'gone' }] });
    expect((await client.ask({ token: 'a', csr, identity: late })).certChain).toHaveLength(2);
    const error = await client.refusal({ token: 'a', csr, identity: 'spiffe://cluster.local/ns/shop/sa/gone' });
    expect(error.details).toContain('there is no service account shop/gone');
    expect(lookup.mock.calls).toEqual([
      ['shop', 'late'],
      ['shop', 'gone'],
    ]);
  });
});

describe('the serving certificate', () => {
  const shown = (name: string): Promise<X509Certificate> =>
    new Promise((resolve, reject) => {
      const socket = tlsConnect({ port, host: '127.0.0.1', servername: name, ca: authority.roots, ALPNProtocols: ['h2'] }, () => {
        resolve(socket.getPeerX509Certificate()!);
        socket.destroy();
      });
      socket.on('error', reject);
    });

  it('is good under each of its names', async () => {
    for (const name of ['culvert-control.culvert-system.svc', 'istiod.istio-system.svc', 'localhost']) await shown(name);
    const names = (await shown('localhost')).subjectAltName;
    expect(names).toContain('DNS:culvert-control.culvert-system.svc.cluster.local');
    expect(names).toContain('IP Address:127.0.0.1');
    expect(names).toContain('IP Address:0:0:0:0:0:0:0:1');
    await expect(shown('elsewhere.svc')).rejects.toThrow('does not match');
  });

  it('changes with the signer, without a connection lost', async () => {
    const before = await shown('localhost');
    const renewed = vi.fn();
    const watch = serving.onChange(renewed);
    authority.install(await materialOf('second'));
    await vi.waitFor(() => expect(renewed).toHaveBeenCalledOnce());
    watch.close();
    const after = await shown('localhost');
    expect(after.serialNumber).not.toBe(before.serialNumber);
    expect(after.issuer).toBe('CN=second');
    // The connection from before stands, and is answered by the new signer.
    const { certChain } = await client.ask({ token: 'a', csr, identity: WEB });
    expect(certChain[1]).toBe(authority.roots);
    // Who trusts the new root only gets in, too.
    const other = new CaClient(port, authority.roots);
    await other.ask({ token: 'a', csr, identity: WEB });
    other.close();
  });

  it('is renewed at half of its life', async () => {
    const short = await ServingCertificate.obtain({ authority, names: ['localhost'], log, lifetimeMs: 1500 });
    const serial = () => new X509Certificate(short.current.certificate).serialNumber;
    const before = serial();
    await vi.waitFor(() => expect(serial()).not.toBe(before));
    short.close();
  });
});
