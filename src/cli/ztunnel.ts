/** `culvert ztunnel`: the built-in tunnel as a process, until SIGTERM or SIGINT. */
import type { z } from 'zod';
import { paths } from '../agent/api.ts';
import { configHelp, loadConfig } from '../base/config.ts';
import { createLogger, type Logger } from '../base/log.ts';
import { version } from '../base/version.ts';
import type { StateFeed } from '../sources/feed.ts';
import { createFileFeed } from '../sources/file/feed.ts';
import { createFileSource } from '../sources/file/source.ts';
import { meshOrigin, readPairs, tunnelConfigSchema, type MeshOrigin } from '../tunnel/config.ts';
import type { CertificateIssuer } from '../tunnel/issuer.ts';
import { LocalCaIssuer } from '../tunnel/local-ca.ts';
import { Tunnel } from '../tunnel/tunnel.ts';
import { stopSignal, surviveRejections } from './process.ts';
import { allSettings } from './settings.ts';

type Config = z.infer<typeof tunnelConfigSchema>;

interface Mesh {
  feed: StateFeed;
  issuer: CertificateIssuer;
  close(): void;
}

/** @returns the exit code @throws CONFIG_INVALID, SYSTEM */
export async function run(args: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<number> {
  if (args.includes('--help')) {
    process.stdout.write(`culvert ztunnel: the built-in tunnel of a node\n\n${configHelp(tunnelConfigSchema)}\n`);
    return 0;
  }
  const config = loadConfig(tunnelConfigSchema, { args, env, otherKeys: allSettings });
  const origin = meshOrigin(config);
  const logger = (scope: string): Logger => createLogger(scope, config.logLevel);
  const log = logger('ztunnel');
  surviveRejections(log);
  const mesh = origin.source === 'file' ? fromFile(origin) : await fromControlPlane(config, origin, logger);
  const tunnel = new Tunnel({
    node: config.node,
    version,
    zdsSocket: config.zdsSocket,
    adminSocket: paths.tunnelAdminSocket(config.runDir),
    adminPort: config.adminPort,
    readinessPort: config.readinessPort,
    drainDeadlineMs: config.drainDeadlineMs,
    feed: mesh.feed,
    network: config.network,
    issuer: mesh.issuer,
    certificateLifetimeMs: config.certificateLifetimeMs,
    logger,
  });
  const stopping = stopSignal();
  await tunnel.start();
  log.info({ node: config.node, version, source: origin.source, pid: process.pid }, 'tunnel started');
  const signal = await stopping;
  log.info({ signal, deadlineMs: config.drainDeadlineMs }, 'tunnel draining');
  await tunnel.stop();
  mesh.close();
  log.info('tunnel stopped');
  return 0;
}

function fromFile({ meshFile, caDir }: Extract<MeshOrigin, { source: 'file' }>): Mesh {
  return { feed: createFileFeed(createFileSource({ meshFile })), issuer: new LocalCaIssuer(caDir), close: () => undefined };
}

/** gRPC is loaded by who needs it: it would double the start of a tunnel that reads a file. */
async function fromControlPlane(
  config: Config,
  { xdsAddress, caAddress }: Extract<MeshOrigin, { source: 'xds' }>,
  logger: (scope: string) => Logger,
): Promise<Mesh> {
  const [{ createXdsFeed }, { CaClient }, { ControlPlaneChannel }] = await Promise.all([
    import('../sources/xds/feed.ts'),
    import('../tunnel/ca-client.ts'),
    import('../rpc/channel.ts'),
  ]);
  const { rootCert, tokenFile, clusterId, serverName, network, onDemand, instanceIp, podName, podNamespace } = config;
  const access = { rootCert, tokenFile, clusterId, ...given({ serverName }) };
  const metadata = readPairs(config.nodeMetadata);
  const node = { name: config.node, metadata, ...given({ ip: instanceIp, podName, namespace: podNamespace }) };
  const feed = createXdsFeed({
    controlPlane: { address: xdsAddress, headers: readPairs(config.xdsHeaders), ...access },
    node,
    network,
    onDemand,
    logger: logger('xds'),
  });
  const channel = new ControlPlaneChannel({ address: caAddress, headers: readPairs(config.caHeaders), ...access }, logger('ca'));
  return { feed, issuer: new CaClient(channel), close: () => channel.close() };
}

/** Without what is not set: an option that is undefined is not the same as one that is absent. */
function given<T extends Record<string, string | undefined>>(settings: T): { [K in keyof T]?: string } {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined)) as { [K in keyof T]?: string };
}
