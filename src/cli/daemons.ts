/** The daemons' roles. Their flags are theirs to read, together with configuration file and environment. */
import type { Command } from 'commander';
import type { Cli } from './main.ts';

export function addDaemons(root: Command, cli: Cli): void {
  daemon(root, 'agent', 'run the node agent: enrols pods, redirects their traffic, serves ZDS').action(async (args: string[]) => {
    const { run } = await import('./agent.ts');
    cli.exit.code = await run(args);
  });
  daemon(root, 'ztunnel', 'run the built-in tunnel: a ZDS client with listeners inside the pods').action(async (args: string[]) => {
    const { run } = await import('./ztunnel.ts');
    cli.exit.code = await run(args);
  });
  daemon(root, 'control', 'run the control plane of a mesh without Istio: serves xDS and the CA').action(async (args: string[]) => {
    const { run } = await import('./control.ts');
    cli.exit.code = await run(args);
  });
}

function daemon(root: Command, name: string, description: string): Command {
  return root
    .command(name)
    .description(description)
    .usage('[flags]')
    .argument('[flags...]')
    .helpOption(false)
    .allowUnknownOption()
    .passThroughOptions();
}
