/** `culvert version`. */
import { release } from 'node:os';
import type { Command } from 'commander';
import { version } from '../base/version.ts';
import type { Cli } from './main.ts';
import { answer, formatOption, type Format } from './output.ts';

export function addVersion(root: Command, cli: Cli): void {
  root
    .command('version')
    .description('version of this program, of Node in it and of the kernel under it')
    .addOption(formatOption())
    .action(async (options: { output?: Format }) => {
      const document = { version, node: process.version, kernel: release(), architecture: process.arch };
      await answer(cli.io, options.output, document, () => ({
        head: ['VERSION', 'NODE', 'KERNEL', 'ARCHITECTURE'],
        rows: [Object.values(document)],
      }));
    });
}
