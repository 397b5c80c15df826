import { Client, type Metadata, type ServerUnaryCall, type sendUnaryData } from '@grpc/grpc-js';
import { create } from '@bufbuild/protobuf';
import dns from 'node:dns';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  IstioCertificateRequestSchema,
  IstioCertificateResponseSchema,
  type IstioCertificateRequest,
  type IstioCertificateResponse,
} from '../../../src/proto/certificate_pb.js';
import { ControlPlaneChannel, type ControlPlaneOptions } from '../../../src/rpc/channel.ts';
import { createCertificate } from '../../../src/rpc/services.ts';
import { statusText } from '../../../src/rpc/status.ts';
import { TestRoot } from '../../support/control-plane/certificates.ts';
import { collectingLogger } from '../../support/control-plane/logs.ts';
import { startServer, type ControlPlaneServer, type ServerSettings } from '../../support/control-plane/server.ts';

const { path, requestSerialize, responseDeserialize } = createCertificate;
const request = create(IstioCertificateRequestSchema, { csr: 'x' });

async function call(channel: ControlPlaneChannel): Promise<IstioCertificateResponse> {
  const [client, metadata] = await Promise.all([channel.client(), channel.metadata()]);
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, metadata, (error, answer) => {
      if (error === null && answer !== undefined) resolve(answer);
      else reject(error ?? new Error('no answer'));
    });
  });
}
const refusal = (channel: ControlPlaneChannel): Promise<string> =>
  call(channel).then(
    () => 'answered',
    (error: unknown) => statusText(error),
  );

describe('control plane channel', () => {
  let dir: string;
  let seen: Metadata[];
  /** address of the server, per call */
  let answered: string[];
  const opened: { close(): void }[] = [];
  const running: ControlPlaneServer[] = [];
  const logs = collectingLogger();

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'culvert-channel-'));
    seen = [];
    answered = [];
    logs.lines.length = 0;
  });
  afterEach(async () => {
    for (const each of opened.splice(0)) each.close();
    for (const server of running.splice(0)) await server.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  const serve = async (settings?: ServerSettings): Promise<ControlPlaneServer> => {
    const answer = create(IstioCertificateResponseSchema, { certChain: ['y'] });
    const handler = (
      unary: ServerUnaryCall<IstioCertificateRequest, IstioCertificateResponse>,
      done: sendUnaryData<IstioCertificateResponse>,
    ): void => {
      seen.push(unary.metadata);
      answered.push(settings?.host ?? '127.0.0.1');
      done(null, answer);
    };
    const server = await startServer([{ definition: createCertificate, handler }], settings);
    running.push(server);
    return server;
  };
  const open = (server: { address: string; rootFile: string }, more: Partial<ControlPlaneOptions> = {}): ControlPlaneChannel => {
    const options = { address: server.address, rootCert: server.rootFile, clusterId: 'Kubernetes', ...more };
    const channel = new ControlPlaneChannel(options, logs.log);
    opened.push(channel);
    return channel;
  };

  it('carries the token of its file, the cluster and further headers; the token is read for every call', async () => {
    const tokenFile = join(dir, 'token');
    writeFileSync(tokenFile, 'one\n');
    const channel = open(await serve(), { tokenFile, headers: { 'x-extra': 'yes' } });
    await call(channel);
    writeFileSync(tokenFile, 'two');
    await call(channel);
    expect(seen.map((metadata) => metadata.get('authorization'))).toEqual([['Bearer one'], ['Bearer two']]);
    expect(seen[0]?.get('clusterid')).toEqual(['Kubernetes']);
    expect(seen[0]?.get('x-extra')).toEqual(['yes']);
  });

  it('sends no authorization without a token file', async () => {
    await call(open(await serve()));
    expect(seen[0]?.get('authorization')).toEqual([]);
  });

  it('names a token file that is missing, empty or no token, and never what is in it', async () => {
    const tokenFile = join(dir, 'token');
    const channel = open(await serve(), { tokenFile });
    await expect(channel.metadata()).rejects.toMatchObject({ code: 'XDS', systemCode: 'ENOENT', message: `read token ${tokenFile}` });
    writeFileSync(tokenFile, '\n');
    await expect(channel.metadata()).rejects.toThrow(`read token ${tokenFile}: empty`);
    writeFileSync(tokenFile, 'se cret\nx');
    await expect(channel.metadata()).rejects.toThrow(new RegExp(`^read token ${tokenFile}: no token in it$`));
  });

  it('refuses a header that cannot be one, at once', async () => {
    const server = await serve();
    expect(() => open(server, { headers: { 'bad name': 'x' } })).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  });

  it('names the roots file when it is missing or holds no certificate', async () => {
    const server = await serve();
    const rootCert = join(dir, 'root.pem');
    const channel = open(server, { rootCert });
    await expect(channel.client()).rejects.toMatchObject({ code: 'XDS', systemCode: 'ENOENT' });
    writeFileSync(rootCert, 'hello');
    await expect(channel.client()).rejects.toThrow(`${rootCert}: no PEM certificate in it`);
    writeFileSync(rootCert, `${server.root.pem}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n`);
    await expect(channel.client()).rejects.toThrow(`${rootCert}: certificate 2 cannot be read`);
    writeFileSync(rootCert, server.root.pem);
    await expect(call(channel)).resolves.toMatchObject({ certChain: ['y'] });
  });

  it('keeps one client while the roots stay the same, and makes one for new roots', async () => {
    const server = await serve();
    const rootCert = join(dir, 'root.pem');
    writeFileSync(rootCert, server.root.pem);
    const channel = open(server, { rootCert });
    const [first, second] = await Promise.all([channel.client(), channel.client()]);
    expect(first).toBeInstanceOf(Client);
    expect(second).toBe(first);
    const other = await TestRoot.create();
    writeFileSync(rootCert, server.root.pem + other.pem);
    expect(await channel.client()).not.toBe(first);
    await call(channel);
  });

  it('follows a rotation of the root: refused before, accepted after', async () => {
    const server = await serve();
    const rootCert = join(dir, 'root.pem');
    writeFileSync(rootCert, (await TestRoot.create('CN=other root')).pem);
    const channel = open(server, { rootCert });
    expect(await refusal(channel)).toBe(
      `UNAVAILABLE: connect to ${server.address}: its certificate does not lead to a root in ${rootCert} (UNABLE_TO_VERIFY_LEAF_SIGNATURE)`,
    );
    writeFileSync(rootCert, server.root.pem);
    await call(channel);
  });

  it('stays with the roots it has when the file turns to garbage or goes away, and warns once for each', async () => {
    const server = await serve();
    const rootCert = join(dir, 'root.pem');
    writeFileSync(rootCert, server.root.pem);
    const channel = open(server, { rootCert });
    await call(channel);
    const client = await channel.client();
    writeFileSync(rootCert, 'garbage');
    expect(await channel.client()).toBe(client);
    await call(channel);
    rmSync(rootCert);
    expect(await channel.client()).toBe(client);
    expect(await channel.client()).toBe(client);
    const warnings = logs.lines.filter((line) => line['level'] === 40).map((line) => line['error']);
    expect(warnings).toEqual([`read roots of the control plane ${rootCert}: no PEM certificate in it`, expect.stringContaining('ENOENT')]);
  });

  it('trusts what the operating system trusts when told so, and that is not our root', async () => {
    const server = await serve();
    expect(await refusal(open(server, { rootCert: 'SYSTEM' }))).toContain('does not lead to a root in SYSTEM');
  });

  it('refuses a server of another name, saying both; a further name can be allowed', async () => {
    const server = await serve({ names: ['istiod.istio-system.svc'] });
    expect(await refusal(open(server))).toMatch(
      /^UNAVAILABLE: connect to https:\/\/127\.0\.0\.1:\d+: .*127\.0\.0\.1 is not in the cert's list/,
    );
    expect(await refusal(open(server, { serverName: 'other.svc' }))).toMatch(
      /other\.svc\. is not in the cert's altnames.*istiod\.istio-system/,
    );
    await call(open(server, { serverName: 'istiod.istio-system.svc' }));
  });

  it('reaches a server by IPv6 literal and by name', async () => {
    await call(open(await serve({ host: '::1' })));
    const server = await serve();
    await call(open(server, { address: `localhost:${server.port}` }));
  });

  it('goes on with another replica when the one it has is gone', async () => {
    const names = ['control.test'];
    const first = await serve({ names });
    const root = first.root;
    const second = await serve({ names, root, host: '127.0.0.2', port: first.port });
    // A name with two addresses would need a name server of our own.
    const addresses = ['127.0.0.1', '127.0.0.2'].map((address) => ({ address, family: 4 }));
    const lookup = vi.spyOn(dns.promises, 'lookup').mockImplementation((() => Promise.resolve(addresses)) as never);
    try {
      const channel = open({ address: `control.test:${first.port}`, rootFile: second.rootFile });
      await call(channel);
      const used = answered[0]!.startsWith('127.0.0.1') ? first : second;
      const other = used === first ? second : first;
      await used.stop();
      await vi.waitFor(() => call(channel));
      await call(channel);
      expect(answered.at(-1)).toBe(other === first ? '127.0.0.1' : '127.0.0.2');
    } finally {
      lookup.mockRestore();
    }
  });

  it('says why nobody answers', async () => {
    const server = await serve();
    await server.stop();
    writeFileSync(join(dir, 'root.pem'), server.root.pem);
    const channel = open({ ...server, rootFile: join(dir, 'root.pem') });
    expect(await refusal(channel)).toBe(`UNAVAILABLE: connect ECONNREFUSED 127.0.0.1:${server.port}`);
  });

  it('ends at once what a silent server holds up', async () => {
    const silent = createServer();
    const accepted = new Promise<Socket>((resolve) => silent.once('connection', resolve));
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const { port } = silent.address() as { port: number };
    const rootFile = join(dir, 'root.pem');
    writeFileSync(rootFile, (await TestRoot.create()).pem);
    const channel = open({ address: `127.0.0.1:${port}`, rootFile });
    const outcome = refusal(channel);
    const socket = await accepted;
    const gone = new Promise((resolve) => socket.once('close', resolve));
    socket.on('error', () => undefined).resume();
    channel.close();
    expect(await outcome).toContain('closed');
    await gone;
    await new Promise((resolve) => silent.close(resolve));
    await expect(channel.client()).rejects.toMatchObject({ code: 'XDS' });
  });
});
