/** `culvert ztunnel`: the built-in tunnel as a process, until SIGTERM or SIGINT. */
import { paths } from '../agent/api.ts';
import { agentConfigSchema } from '../agent/config.ts';
import { configHelp, loadConfig } from '../base/config.ts';
import { describe } from '../base/errors.ts';
import { createLogger } from '../base/log.ts';
import { version } from '../base/version.ts';
import { createFileFeed } from '../sources/file/feed.ts';
import { createFileSource } from '../sources/file/source.ts';
import { tunnelConfigSchema } from '../tunnel/config.ts';
import { LocalCaIssuer } from '../tunnel/local-ca.ts';
import { Tunnel } from '../tunnel/tunnel.ts';

/** @returns the exit code @throws CONFIG_INVALID, SYSTEM */
export async function run(args: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<number> {
  if (args.includes('--help')) {
    process.stdout.write(`culvert ztunnel: the built-in tunnel of a node\n\n${configHelp(tunnelConfigSchema)}\n`);
    return 0;
  }
  const config = loadConfig(tunnelConfigSchema, { args, env, otherKeys: Object.keys(agentConfigSchema.shape) });
  const logger = (scope: string): ReturnType<typeof createLogger> => createLogger(scope, config.logLevel);
  const log = logger('ztunnel');
  process.on('unhandledRejection', (reason) => {
    log.error({ error: describe(reason) }, 'unexpected rejection'); // one connection's fault must not end all the others
  });
  const tunnel = new Tunnel({
    node: config.node,
    version,
    zdsSocket: config.zdsSocket,
    adminSocket: paths.tunnelAdminSocket(config.runDir),
    adminPort: config.adminPort,
    readinessPort: config.readinessPort,
    drainDeadlineMs: config.drainDeadlineMs,
    feed: createFileFeed(createFileSource({ meshFile: config.meshFile })),
    issuer: new LocalCaIssuer(config.caDir),
    logger,
  });
  const stopping = stopSignal();
  await tunnel.start();
  log.info({ node: config.node, version, pid: process.pid }, 'tunnel started');
  const signal = await stopping;
  log.info({ signal, deadlineMs: config.drainDeadlineMs }, 'tunnel draining');
  await tunnel.stop();
  log.info('tunnel stopped');
  return 0;
}

/** A second signal ends the process at once. */
function stopSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, resolve);
  });
}
