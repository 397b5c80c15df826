/** `culvert uninstall`: what `culvert install` put onto this host is taken off again. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { hostDirectories, type HostDirectories } from './host-directories.ts';
import type { Cli } from './main.ts';
import { answer, formatOption, type Format } from './output.ts';

export function addUninstall(root: Command, cli: Cli): void {
  hostDirectories(root.command('uninstall'))
    .description("take culvert-cni and its entry off this host again; others' plugins and running pods stay as they are")
    .addOption(formatOption())
    .action(async (options: HostDirectories & { output?: Format }) => {
      const { uninstall } = await import('../install/host.ts');
      const { cniBinDir: binDir, cniConfDir: confDir } = options;
      const { files, executable } = await uninstall({ binDir, confDir });
      const removed = [...files.map((file) => join(confDir, file)), ...(executable ? [join(binDir, 'culvert-cni')] : [])];
      await answer(cli.io, options.output, { removedFrom: removed }, () => ({
        head: ['REMOVED FROM'],
        rows: removed.map((path) => [path]),
      }));
    });
}
