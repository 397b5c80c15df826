/** A real gRPC server over TLS in this process, with the methods that a test gives it. */
import { Server, ServerCredentials, type ServiceDefinition, type UntypedHandleCall } from '@grpc/grpc-js';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TestRoot } from './certificates.ts';

export interface Method {
  definition: ServiceDefinition[string];
  handler: UntypedHandleCall;
}

export interface ControlPlaneServer {
  port: number;
  /** "https://127.0.0.1:port" */
  address: string;
  /** PEM file with its root */
  rootFile: string;
  root: TestRoot;
  /** Cuts every connection and listens no more. */
  stop(): Promise<void>;
}

export interface ServerSettings {
  /** default 127.0.0.1 */
  host?: string;
  /** 0: any. A port given again is how a server restarts */
  port?: number;
  /** signs the server's certificate; a new one when absent */
  root?: TestRoot;
  /** of the certificate; default localhost and 127.0.0.1 */
  names?: readonly string[];
}

export async function startServer(methods: readonly Method[], settings: ServerSettings = {}): Promise<ControlPlaneServer> {
  const { host = '127.0.0.1', port = 0, names = ['localhost', '127.0.0.1', '::1'] } = settings;
  const root = settings.root ?? (await TestRoot.create());
  const { certificate, key } = await root.server(names);
  const server = new Server({ 'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1 });
  for (const { definition, handler } of methods) server.addService({ method: definition }, { method: handler });
  const credentials = ServerCredentials.createSsl(null, [{ private_key: Buffer.from(key), cert_chain: Buffer.from(certificate) }]);
  const literal = host.includes(':') ? `[${host}]` : host;
  const bound = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`${literal}:${port}`, credentials, (error, given) => {
      if (error === null) resolve(given);
      else reject(error);
    });
  });
  const dir = mkdtempSync(join(tmpdir(), 'culvert-control-plane-'));
  const rootFile = join(dir, 'root.pem');
  writeFileSync(rootFile, root.pem);
  return {
    port: bound,
    address: `https://${literal}:${bound}`,
    rootFile,
    root,
    stop: () => {
      server.forceShutdown();
      rmSync(dir, { recursive: true, force: true });
      return Promise.resolve();
    },
  };
}
