/** The root in its Secret, on a real API server: made once, taken up by all, rotated without a moment of distrust, told in ConfigMaps. */
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { connect as tlsConnect, createServer as createTlsServer } from 'node:tls';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Authority } from '../../../src/control/ca/authority.ts';
import { CA_CERT, CA_KEY, CERT_CHAIN, ROOT_CERT } from '../../../src/control/ca/material.ts';
import { ROOT_CONFIG_KEY, ROOT_CONFIG_MAP, RootConfigMaps } from '../../../src/control/ca/root-config-maps.ts';
import { filesOf, OPERATOR_SECRET, ROOT_SECRET, ROTATE_ANNOTATION, rotationOf, secretPath } from '../../../src/control/ca/root-secret.ts';
import { RootStore, type RootStoreOptions } from '../../../src/control/ca/root-store.ts';
import { createRoot, type Root } from '../../../src/identity/root.ts';
import type { KubeApi } from '../../../src/kubernetes/api.ts';
import { connectKubernetes } from '../../../src/kubernetes/client.ts';
import { obtainCertificate, type WorkloadCertificate } from '../../../src/tunnel/workload-certificate.ts';
import { startApiServer, type ApiServer } from '../../support/apiserver.ts';
import { freshRequest } from '../../support/csr.ts';
import { recordingLog } from '../../support/ca/log.ts';
import { until } from '../../support/kubernetes/until.ts';

const DAY = 24 * 3600_000;
const { log, lines } = recordingLog();

let cluster: ApiServer;
let api: KubeApi;
let namespace: string;
let count = 0;
let open: { close(): void }[] = [];

beforeAll(async () => {
  cluster = await startApiServer();
  api = connectKubernetes({ kubeconfig: cluster.kubeconfig, fieldManager: 'culvert-control' });
});
afterAll(() => cluster.close());
beforeEach(async () => {
  namespace = `mesh-${String(++count)}`;
  await cluster.createNamespace(namespace);
  lines.length = 0;
});
afterEach(() => {
  for (const one of open) one.close();
  open = [];
});

interface Replica {
  store: RootStore;
  authority: Authority;
}

async function replica(options: Partial<RootStoreOptions> = {}): Promise<Replica> {
  const store = await RootStore.open({ api, namespace, isLeader: () => false, overlapMs: DAY, log, ...options });
  const authority = new Authority(store.material, { reserve: (lifetimeMs) => store.reserve(lifetimeMs) });
  store.onMaterial((material) => authority.install(material));
  open.push(store);
  return { store, authority };
}

const secretOf = async (name = ROOT_SECRET) => {
  const secret = await api.get(secretPath(namespace, name));
  if (secret === undefined) throw new Error(`no secret ${name}`);
  return secret;
};
const base64 = (files: Record<string, string>) =>
  Object.fromEntries(Object.entries(files).map(([key, text]) => [key, Buffer.from(text).toString('base64')]));
const setSecret = (files: Record<string, string>, name = ROOT_SECRET) =>
  api.patch(secretPath(namespace, name), { data: base64(files) }, 'merge');
const createSecret = (files: Record<string, string>, name = ROOT_SECRET) =>
  api.create(secretPath(namespace), { metadata: { name }, data: base64(files) });
const filesFor = (root: Root) => ({ [CA_CERT]: root.certificate, [CA_KEY]: root.key, [ROOT_CERT]: root.certificate, [CERT_CHAIN]: '' });
const serialOf = (root: Root) => new X509Certificate(root.certificate).serialNumber;

describe('the Secret', () => {
  it('is made once, however many replicas start at the same time, and again nobody makes one', async () => {
    const replicas = await Promise.all(Array.from({ length: 8 }, () => replica()));
    const [first] = replicas;
    for (const { authority } of replicas) expect(authority.roots).toBe(first!.authority.roots);
    expect(lines.filter(({ msg }) => msg.includes('made, with a new root'))).toHaveLength(1);
    const secret = await secretOf();
    expect(filesOf(secret)[ROOT_CERT]).toBe(first!.authority.roots);
    expect((await replica()).authority.signer).toBe(first!.authority.signer);
    expect((await secretOf()).metadata.resourceVersion).toBe(secret.metadata.resourceVersion);
  });

  it('that cannot be used is fatal at the start, named with every reason, and not touched', async () => {
    const root = await createRoot({ name: 'root' });
    await createSecret({ [CA_CERT]: root.certificate, [CA_KEY]: 'garbage' });
    const before = await secretOf();
    await expect(replica()).rejects.toMatchObject({
      code: 'CERTIFICATE',
      message: expect.stringContaining(`secret ${namespace}/${ROOT_SECRET}: ca-key.pem`) as string,
    });
    expect((await secretOf()).metadata.resourceVersion).toBe(before.metadata.resourceVersion);
  });

  it('that goes bad while control runs leaves the last good one in use; a good one is taken up by all', async () => {
    const [a, b] = [await replica(), await replica()];
    const before = a.authority.signer;
    await setSecret({ [CA_CERT]: 'garbage' });
    await until(
      'the fault to be told by both',
      () =>
        lines.filter(({ msg }) => msg.includes(`CA stays as it was: read CA from secret ${namespace}/${ROOT_SECRET}: ca-cert.pem`))
          .length === 2,
    );
    expect([a.authority.signer, b.authority.signer]).toEqual([before, before]);
    const root = await createRoot({ name: 'edited' });
    await setSecret(filesFor(root));
    await until('both to sign with the new one', () => [a, b].every(({ authority }) => authority.signer === serialOf(root)));
    expect(lines.some(({ msg }) => msg.includes('was not trusted before'))).toBe(true);
  });

  it('that somebody deletes is written again by the one that leads', async () => {
    const leading = await replica({ isLeader: () => true });
    await replica();
    await api.remove(secretPath(namespace, ROOT_SECRET));
    await until('the Secret to be back', async () => (await api.get(secretPath(namespace, ROOT_SECRET))) !== undefined);
    expect(filesOf(await secretOf())[ROOT_CERT]).toBe(leading.authority.roots);
    expect((await replica()).authority.signer).toBe(leading.authority.signer);
  });

  it('of the operator wins while it is there, also one that comes later', async () => {
    const given = await createRoot({ name: 'given' });
    await createSecret(filesFor(given), OPERATOR_SECRET);
    const early = await replica({ isLeader: () => true });
    expect(early.authority.signer).toBe(serialOf(given));
    expect(await api.get(secretPath(namespace, ROOT_SECRET))).toBeUndefined();
    await api.remove(secretPath(namespace, OPERATOR_SECRET));
    await until('it to be missed', () => lines.some(({ msg }) => msg.includes('what was read stays in use')));
    expect(early.authority.signer).toBe(serialOf(given));
    early.store.close();

    const late = await replica();
    expect(late.authority.signer).not.toBe(serialOf(given));
    await createSecret(filesFor(given), OPERATOR_SECRET);
    await until('the operator’s to be used', () => late.authority.signer === serialOf(given));
  });
});

/** A workload: its certificate is renewed before half of its life is over, and with it what it trusts. */
class Workload {
  readonly #name: string;
  readonly #replica: Replica;
  readonly #lifetimeMs: number;
  /** others renew at other times */
  readonly #renewMs: number;
  #certificate: WorkloadCertificate | undefined;
  #renewed = 0;

  constructor(name: string, by: Replica, lifetimeMs: number, renewMs: number) {
    this.#name = name;
    this.#replica = by;
    this.#lifetimeMs = lifetimeMs;
    this.#renewMs = renewMs;
  }

  async certificate(): Promise<WorkloadCertificate> {
    if (this.#certificate === undefined || Date.now() - this.#renewed > this.#renewMs) await this.#renew();
    return this.#certificate!;
  }

  async #renew(): Promise<void> {
    const issuer = {
      sign: async (request: { csr: string; identity: string; lifetimeMs: number }) => {
        const { chain, roots } = await this.#replica.authority.sign(request);
        return { chain, roots: [roots] };
      },
    };
    this.#renewed = Date.now();
    this.#certificate = await obtainCertificate(issuer, `spiffe://cluster.local/ns/shop/sa/${this.#name}`, this.#lifetimeMs);
  }
}

/** Both sides show a certificate, and verify the other's by the roots that came with their own. */
async function shakeHands(client: WorkloadCertificate, server: WorkloadCertificate): Promise<void> {
  const listener = createTlsServer({ ...server.options, requestCert: true, rejectUnauthorized: true });
  const verified = once(listener, 'secureConnection');
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  const socket = tlsConnect({ port, host: '127.0.0.1', secureContext: client.context, checkServerIdentity: () => undefined });
  try {
    await Promise.all([once(socket, 'secureConnect'), verified]);
  } finally {
    socket.destroy();
    listener.close();
  }
}

describe('a rotation', () => {
  it('that is asked for ends with another root, handed over between replicas on the way, and nobody ever distrusts anybody', async () => {
    const overlapMs = 3000;
    let leader = 'a';
    const rotation = { overlapMs, checkMs: 100 };
    const a = await replica({ ...rotation, isLeader: () => leader === 'a' });
    const b = await replica({ ...rotation, isLeader: () => leader === 'b' });
    const old = a.authority.signer;
    const workloads = [a, b, a, b].map((by, index) => new Workload(`w${String(index)}`, by, overlapMs, 500 + index * 200));
    for (const one of workloads) await one.certificate();

    await api.patch(secretPath(namespace, ROOT_SECRET), { metadata: { annotations: { [ROTATE_ANNOTATION]: '1' } } }, 'merge');
    const phases: string[] = [];
    const signers = new Set<string>();
    let handshakes = 0;
    const deadline = Date.now() + 60_000;
    while (phases.at(-1) !== 'steady' || phases.length < 3) {
      expect(Date.now(), phases.join(' ')).toBeLessThan(deadline);
      const { phase, done } = rotationOf(await secretOf());
      if (phases.at(-1) !== phase && done === '1') phases.push(phase);
      if (phase === 'introduced') leader = 'b'; // the first goes away, the other goes on
      for (const client of workloads) {
        for (const server of workloads) {
          const [mine, theirs] = [await client.certificate(), await server.certificate()];
          signers.add(new X509Certificate(mine.chain[0]!).issuer);
          await shakeHands(mine, theirs);
          handshakes++;
        }
      }
    }
    expect(phases).toEqual(['introduced', 'switched', 'steady']);
    expect(signers.size).toBe(2);
    expect(handshakes).toBeGreaterThan(50);
    await until('both to trust the new root only', () => [a, b].every(({ authority }) => authority.roots.split('BEGIN CERT').length === 2));
    expect(a.authority.signer).not.toBe(old);
    expect(b.authority.roots).toBe(a.authority.roots);
    expect(lines.filter(({ level }) => level >= 40)).toEqual([]);
    expect(Object.keys(filesOf(await secretOf())).sort()).toEqual([CA_CERT, CA_KEY, CERT_CHAIN, ROOT_CERT].sort());
  });

  it('waits for the longest life that any replica handed out', async () => {
    const replicas = await Promise.all(Array.from({ length: 4 }, () => replica({ overlapMs: 10_000 })));
    const { csr } = await freshRequest();
    const sign = ({ authority }: Replica, seconds: number) =>
      authority.sign({ csr, identity: 'spiffe://cluster.local/ns/shop/sa/web', lifetimeMs: seconds * 1000 });
    await Promise.all(replicas.map((one) => sign(one, 10)));
    expect((await secretOf()).metadata.annotations).toBeUndefined();
    await Promise.all(replicas.map((one, index) => sign(one, 20 + index)));
    expect(rotationOf(await secretOf()).longestMs).toBe(23_000);
    const version = (await secretOf()).metadata.resourceVersion;
    await Promise.all(replicas.map((one) => sign(one, 22)));
    expect((await secretOf()).metadata.resourceVersion).toBe(version);
  });

  it('comes by itself when little of the root’s life is left, and again for the next', async () => {
    const rotation = { rootLifetimeMs: 6000, overlapMs: 500, remaining: 0.9, checkMs: 50 };
    const { authority } = await replica({ ...rotation, isLeader: () => true });
    const signers = new Set([authority.signer]);
    await until('three roots to have signed', () => signers.add(authority.signer).size >= 3);
  });
});

describe('the ConfigMaps', () => {
  const path = (of: string) => `/api/v1/namespaces/${of}/configmaps`;
  const rootsIn = async (of: string) => {
    const map = await api.get(`${path(of)}/${ROOT_CONFIG_MAP}`);
    return (map?.['data'] as Record<string, string> | undefined)?.[ROOT_CONFIG_KEY];
  };
  const follow = (authority: Authority, isLeader = () => true) => {
    const maps = new RootConfigMaps({ api, authority, isLeader, log, checkMs: 200 });
    open.push(maps);
  };

  it('are in every namespace, also a new one, are put right when changed or deleted, and follow the roots', async () => {
    const { authority } = await replica();
    const others = Array.from({ length: 30 }, (_, index) => `${namespace}-${String(index)}`);
    for (const other of others) await cluster.createNamespace(other);
    await api.create(path(others[0]!), { metadata: { name: ROOT_CONFIG_MAP }, data: { [ROOT_CONFIG_KEY]: 'old', mine: 'kept' } });
    follow(authority);
    const all = ['default', 'kube-system', namespace, ...others];
    const areRight = async (names: string[]) => (await Promise.all(names.map(rootsIn))).every((roots) => roots === authority.roots);
    await until('all to be there', () => areRight(all));
    const adopted = await api.get(`${path(others[0]!)}/${ROOT_CONFIG_MAP}`);
    expect(adopted?.['data']).toMatchObject({ mine: 'kept' });

    await cluster.createNamespace(`${namespace}-late`);
    await until('the new namespace to have it', () => areRight([`${namespace}-late`]));
    await api.remove(`${path(others[1]!)}/${ROOT_CONFIG_MAP}`);
    await api.patch(`${path(others[2]!)}/${ROOT_CONFIG_MAP}`, { data: { [ROOT_CONFIG_KEY]: 'forged' } }, 'merge');
    await until('both to be put right', () => areRight(others));

    const root = await createRoot({ name: 'next' });
    await setSecret(filesFor(root));
    await until('the authority to follow', () => authority.signer === serialOf(root));
    await until('all to follow', () => areRight([...all, `${namespace}-late`]));
    expect(await rootsIn('default')).toBe(root.certificate);
  });

  it('are written by the one that leads alone, which touches nothing that is right', async () => {
    const { authority } = await replica();
    let leads = false;
    let asked = 0;
    follow(authority, () => {
      asked++;
      return leads;
    });
    await until('it to have looked', () => asked > 10);
    expect(await rootsIn(namespace)).toBeUndefined();
    leads = true;
    await until('it to be written', async () => (await rootsIn(namespace)) === authority.roots);
    const version = async () => (await api.get(`${path(namespace)}/${ROOT_CONFIG_MAP}`))?.metadata.resourceVersion;
    const before = await version();
    follow(authority);
    await cluster.createNamespace(`${namespace}-x`);
    await until('the third to have worked', async () => (await rootsIn(`${namespace}-x`)) === authority.roots);
    expect(await version()).toBe(before);
  });

  it('are not forced upon a namespace that is being deleted', async () => {
    const { authority } = await replica();
    const dying = `${namespace}-dying`;
    await cluster.createNamespace(dying);
    await api.remove(`/api/v1/namespaces/${dying}`); // nobody finalizes it here: it stays terminating
    follow(authority);
    await until('the others to have it', async () => (await rootsIn(namespace)) === authority.roots);
    expect(await rootsIn(dying)).toBeUndefined();
    expect(lines.filter(({ level }) => level >= 50)).toEqual([]);
  });
});
