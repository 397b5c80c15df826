/** `culvert control`: the control plane of a mesh without Istio as a process, until SIGTERM or SIGINT. */
import type { Server } from 'node:http';
import { configHelp, loadConfig } from '../base/config.ts';
import { describe } from '../base/errors.ts';
import { createLogger, type Logger } from '../base/log.ts';
import { version } from '../base/version.ts';
import { controlConfigSchema, controlSocket, fileOrigin, type ControlConfig } from '../control/config.ts';
import { Control } from '../control/control.ts';
import type { Platform } from '../control/platform.ts';
import { admin, readiness } from '../control/status.ts';
import { serveTcp, serveUnix } from '../sys/doors.ts';
import { allSettings } from './settings.ts';

/** @returns the exit code @throws CONFIG_INVALID, SYSTEM, CERTIFICATE, KUBERNETES */
export async function run(args: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<number> {
  if (args.includes('--help')) {
    process.stdout.write(`culvert control: the control plane of a mesh without Istio\n\n${configHelp(controlConfigSchema)}\n`);
    return 0;
  }
  const config = loadConfig(controlConfigSchema, { args, env, otherKeys: allSettings });
  const logger = (scope: string): Logger => createLogger(scope, config.logLevel);
  const log = logger('control');
  process.on('unhandledRejection', (reason) => {
    log.error({ error: describe(reason) }, 'unexpected rejection'); // one caller's fault must not end all the others
  });
  const stopping = stopSignal();
  const control = new Control({ config, version, platform: await openPlatform(config, logger), logger });
  // Its doors first: kubelet's probe must not find a closed port while a large cluster is read.
  const probes: Server = await serveTcp(readiness(control), config.readinessPort);
  const door = await serveUnix(admin(control), controlSocket(config.runDir));
  await control.start();
  log.info({ version, cluster: config.cluster, pid: process.pid }, 'control started');
  const signal = await stopping;
  log.info({ signal, deadlineMs: config.drainDeadlineMs }, 'control stopping');
  await control.close();
  await door.close();
  probes.close();
  probes.closeAllConnections();
  log.info('control stopped');
  return 0;
}

/** The Kubernetes client is loaded by who needs it. */
async function openPlatform(config: ControlConfig, logger: (scope: string) => Logger): Promise<Platform> {
  if (config.cluster === 'file') {
    const { openFiles } = await import('../control/file/platform.ts');
    return openFiles(fileOrigin(config), logger);
  }
  const { openKubernetes } = await import('../control/kubernetes/platform.ts');
  return openKubernetes(config, logger);
}

/** A second signal ends the process at once. */
function stopSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, resolve);
  });
}
