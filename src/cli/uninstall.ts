/** `culvert uninstall`: what `culvert install` put onto this host is taken off again; with --all what agents put there, too. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { createLogger } from '../base/log.ts';
import { hostDirectories, type HostDirectories } from './host-directories.ts';
import type { Cli } from './main.ts';
import { answer, formatOption, type Format } from './output.ts';

interface UninstallOptions extends HostDirectories {
  all?: boolean;
  runDir: string;
  stateDir: string;
  pinDir: string;
  zdsSocket: string;
  procRoot: string;
  nodeNetns: string;
  deadlineMs: number;
  handOver?: boolean;
  output?: Format;
}

export function addUninstall(root: Command, cli: Cli): void {
  hostDirectories(root.command('uninstall'))
    .description("take culvert-cni and its entry off this host again; others' plugins and running pods stay as they are")
    .option('--all', 'also what an agent left that nobody runs any more: pods out of the redirect, programs, maps, files')
    .option('--run-dir <dir>', '--all: of that agent', '/var/run/culvert')
    .option('--state-dir <dir>', '--all: of that agent', '/var/lib/culvert')
    .option('--pin-dir <dir>', '--all: of that agent', '/sys/fs/bpf/culvert')
    .option('--zds-socket <path>', '--all: of that agent', '/var/run/ztunnel/ztunnel.sock')
    .option('--proc-root <dir>', "--all: the node's procfs", '/proc')
    .option('--node-netns <path>', "--all: the node's network namespace", '/proc/1/ns/net')
    .option('--hand-over', "--all: pods in which istio-cni's rules are again stay in the mesh by these")
    .option('--deadline-ms <ms>', '--all: how long captured connections of a pod may go on', Number, 3000)
    .addOption(formatOption())
    .action(async (options: UninstallOptions) => {
      const { uninstall } = await import('../install/host.ts');
      const { cniBinDir: binDir, cniConfDir: confDir } = options;
      const { files, executable } = await uninstall({ binDir, confDir });
      const removed = [...files.map((file) => join(confDir, file)), ...(executable ? [join(binDir, 'culvert-cni')] : [])];
      const left = options.all === true ? await removeAgent(options) : undefined;
      await answer(cli.io, options.output, { removedFrom: removed, ...left }, () => ({
        head: ['REMOVED FROM'],
        rows: [...removed, ...(left?.pods.map((pod) => `pod ${pod}`) ?? []), ...(left?.pins === true ? [options.pinDir] : [])].map(
          (path) => [path],
        ),
      }));
    });
}

/** @throws PIN_BUSY while the agent runs */
async function removeAgent({
  runDir,
  stateDir,
  pinDir,
  zdsSocket,
  procRoot,
  nodeNetns,
  deadlineMs,
  handOver = false,
}: UninstallOptions): Promise<{ pods: string[]; pins: boolean }> {
  const { knownInstanceId } = await import('../agent/instance.ts');
  const { removeFiles } = await import('../agent/leftovers.ts');
  const { NETFILTER_KINDS, removeIstioFromNode, removeNetfilter } = await import('../agent/open-drivers.ts');
  const { istioAsHeir } = await import('../redirect/istio-cni/index.ts');
  const { uninstallEbpf } = await import('../redirect/ebpf/index.ts');
  const { native } = await import('../sys/native.ts');
  native.sysctlProc(procRoot);
  const log = createLogger('uninstall', 'warn');
  const instance = knownInstanceId(stateDir);
  const { pods, pins } = await uninstallEbpf({
    ...{ pinDir, instance, procRoot, deadlineMs, force: false, log },
    ...(handOver && { heir: istioAsHeir }),
  });
  for (const kind of NETFILTER_KINDS) pods.push(...(await removeNetfilter({ runDir, nodeNetns, procRoot }, kind, deadlineMs, log)));
  // only where an agent of ours was: elsewhere they are istio-cni's business
  if (!handOver && instance !== undefined) await removeIstioFromNode({ nodeNetns, procRoot }, true, deadlineMs, log);
  removeFiles({ runDir, stateDir, zdsSocket }, handOver);
  return { pods, pins };
}
