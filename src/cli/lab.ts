/** `culvert lab …`: the embedded two-node lab. Only the commands' shapes; what they do is loaded when one is called. */
import { Option, type Command } from 'commander';
import { defaultLabName } from '../lab/paths.ts';
import type * as actions from './lab-actions.ts';
import type { Cli } from './main.ts';
import { formatOption, type Format } from './output.ts';

export interface Named {
  name: string;
}
/** source: undefined leaves it to the tunnel */
export type MeshFlags = Named & { source?: 'file' | 'xds'; ztunnel?: string };
export type UpFlags = MeshFlags & { file?: string };
export type DownFlags = Named & { all?: boolean };
export type StatusFlags = Partial<Named> & { output?: Format };
export type LogFlags = Named & { node?: string; follow?: boolean };

type Actions = typeof actions;

export function addLab(root: Command, cli: Cli): void {
  const lab = root.command('lab').description('a mesh of two nodes on this machine, out of network namespaces').enablePositionalOptions();
  const run = async (act: (loaded: Actions) => Promise<void>): Promise<void> => act(await import('./lab-actions.ts'));
  named(lab, 'up')
    .description('build the lab and start it')
    .option('--file <topology.yaml>', 'nodes, namespaces, pods and services (default: two nodes, four pods)')
    .addOption(sourceOption())
    .addOption(ztunnelOption())
    .action((flags: UpFlags) => run((loaded) => loaded.up(cli, flags)));
  named(lab, 'down')
    .description('take the lab down, or what is left of it')
    .option('--all', 'every lab of this machine, also after a crash')
    .action((flags: DownFlags) => run((loaded) => loaded.down(cli, flags)));
  lab
    .command('status')
    .description('which labs there are, and what of them lives; exit code 1 when the one named is not up')
    .option('--name <lab>', 'only this lab')
    .addOption(formatOption())
    .action((flags: StatusFlags) => run((loaded) => loaded.status(cli, flags)));
  named(lab, 'exec')
    .description('run a program inside a pod')
    .argument('<pod>', 'namespace/name')
    .argument('<command...>', 'after "--"')
    .passThroughOptions()
    .action((pod: string, command: string[], flags: Named) => run((loaded) => loaded.exec(cli, pod, command, flags)));
  named(lab, 'label')
    .description("set (KEY=VALUE) or remove (KEY-) labels in the lab's truth")
    .argument('<kind>', 'namespace or pod')
    .argument('<target>', 'name of the namespace, or namespace/name of the pod')
    .argument('<labels...>', 'KEY=VALUE or KEY-')
    .action((kind: string, target: string, labels: string[], flags: Named) =>
      run((loaded) => loaded.label(cli, kind, target, labels, flags)),
    );
  named(lab, 'logs')
    .description('log of the agents, the tunnels, the control plane or a pod')
    .argument('<what>', 'agent, ztunnel, control or namespace/name of a pod')
    .option('--node <node>', 'only of this node')
    .option('-f, --follow', 'go on until interrupted')
    .action((what: string, flags: LogFlags) => run((loaded) => loaded.logs(cli, what, flags)));
  named(lab, 'demo')
    .description('build a lab, prove what the mesh promises, take it down')
    .addOption(sourceOption())
    .addOption(ztunnelOption())
    .action((flags: MeshFlags) => run((loaded) => loaded.demo(cli, flags)));
  addHidden(root, cli);
}

function named(parent: Command, name: string): Command {
  return parent.command(name).option('--name <lab>', 'name of the lab', defaultLabName);
}

function sourceOption(): Option {
  return new Option(
    '--source <kind>',
    'what the tunnels listen to: the mesh file, or a control plane (xDS and CA) that reads it (default: "file"; "xds" with --ztunnel)',
  ).choices(['file', 'xds']);
}

function ztunnelOption(): Option {
  return new Option('--ztunnel <path>', "executable of Istio's ztunnel to run as the nodes' tunnel (default: the built-in one)");
}

/** Roles that the lab starts inside its pods. */
function addHidden(root: Command, cli: Cli): void {
  root
    .command('lab-echo', { hidden: true })
    .argument('<hostname>')
    .action(async (hostname: string) => {
      const { runEcho } = await import('../lab/echo.ts');
      await runEcho(hostname);
    });
  root.command('lab-caller', { hidden: true }).action(async () => {
    const { runCaller } = await import('../lab/caller.ts');
    await runCaller(process.stdin, cli.io.out);
  });
}
