/** `culvert control`: the control plane of a mesh without Istio as a process, until SIGTERM or SIGINT. */
import type { Server } from 'node:http';
import { configHelp, loadConfig } from '../base/config.ts';
import { createLogger, type Logger } from '../base/log.ts';
import { version } from '../base/version.ts';
import { controlConfigSchema, controlSocket, fileOrigin, type ControlConfig } from '../control/config.ts';
import { Control } from '../control/control.ts';
import type { Platform } from '../control/platform.ts';
import { admin, readiness } from '../control/status.ts';
import { serveTcp, serveUnix } from '../sys/doors.ts';
import { stopSignal, surviveRejections } from './process.ts';
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
  surviveRejections(log);
  const stopping = new AbortController();
  const signal = stopSignal().finally(() => stopping.abort());
  const open: (() => unknown)[] = [];
  try {
    const begun: { control?: Control } = {};
    // Its door first: kubelet's probe must not find a closed port while the API server is away or a large cluster is read.
    const probe = {
      get ready(): boolean {
        return begun.control?.ready === true;
      },
    };
    const probes: Server = await serveTcp(readiness(probe), config.readinessPort);
    open.push(() => {
      probes.close();
      probes.closeAllConnections();
    });
    const platform = await openPlatform(config, logger, stopping.signal);
    const control = new Control({ config, version, platform, logger });
    begun.control = control;
    open.push(() => control.close());
    const door = await serveUnix(admin(control), controlSocket(config.runDir));
    open.push(() => door.close());
    await control.start();
    log.info({ version, cluster: config.cluster, pid: process.pid }, 'control started');
    log.info({ signal: await signal, deadlineMs: config.drainDeadlineMs }, 'control stopping');
  } catch (error) {
    // Told to end while it still waited for the API server: that is what it does.
    if (!stopping.signal.aborted) throw error;
  } finally {
    // The doors of what has begun would keep the process, also when something else could not begin.
    for (const close of open.reverse()) await close();
  }
  log.info('control stopped');
  return 0;
}

/** The Kubernetes client is loaded by who needs it. */
async function openPlatform(config: ControlConfig, logger: (scope: string) => Logger, signal: AbortSignal): Promise<Platform> {
  if (config.cluster === 'file') {
    const { openFiles } = await import('../control/file/platform.ts');
    return openFiles(fileOrigin(config), logger);
  }
  const { openKubernetes } = await import('../control/kubernetes/platform.ts');
  return openKubernetes(config, logger, signal);
}
