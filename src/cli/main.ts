/** The command line: noun commands read, verb commands change. Exit codes: 0 yes or done, 1 no or failed, 2 usage, 3 no agent. */
import { Command, CommanderError } from 'commander';
import { CulvertError, describe } from '../base/errors.ts';
import { addBench } from './bench.ts';
import { addCompletion } from './completion.ts';
import { addDaemons } from './daemons.ts';
import { addDoctor } from './doctor.ts';
import { addInstall } from './install.ts';
import { addLab } from './lab.ts';
import { addLeave } from './leave.ts';
import { addMaps } from './maps.ts';
import type { CliIo } from './output.ts';
import { addPods } from './pods.ts';
import { addRedirect } from './redirect.ts';
import { addStatus } from './status.ts';
import { addCerts, addConnections } from './tunnel.ts';
import { addUninstall } from './uninstall.ts';
import { addVerify } from './verify.ts';
import { addVersion } from './version.ts';

/** What commands are given: where to write, and a place for an exit code that is no error. */
export interface Cli {
  io: CliIo;
  exit: { code: number };
}

const processIo: CliIo = {
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
  tty: process.stdout.isTTY,
};

/** @returns the exit code */
export async function runCli(args: string[], io: CliIo = processIo): Promise<number> {
  const cli: Cli = { io, exit: { code: 0 } };
  if (io === processIo) endWithReader();
  try {
    await program(cli).parseAsync(args, { from: 'user' });
    return cli.exit.code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2; // commander has said it already
    io.err(`culvert: ${describe(error)}\n`);
    return error instanceof CulvertError ? error.exit : 1;
  }
}

/** `culvert pods | head`: nobody reads on, and that is no failure. */
function endWithReader(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
}

export function program(cli: Cli): Command {
  const root = new Command('culvert')
    .description('an ambient mesh without iptables: pods in labelled namespaces talk through mutual TLS, redirected by eBPF')
    .helpCommand('help [command]', 'show what a command does')
    .showHelpAfterError('(culvert help lists the commands)')
    .configureOutput({
      writeOut: cli.io.out,
      writeErr: cli.io.err,
      outputError: (text, write) => {
        write(text.replace(/^error: /, 'culvert: '));
      },
    })
    .enablePositionalOptions() // flags behind "lab exec NS/POD" belong to the program that it runs
    .exitOverride();
  for (const add of [
    addStatus,
    addPods,
    addMaps,
    addVerify,
    addDoctor,
    addConnections,
    addCerts,
    addRedirect,
    addLab,
    addBench,
    addInstall,
    addUninstall,
    addLeave,
    addDaemons,
    addVersion,
    addCompletion,
  ])
    add(root, cli);
  return root;
}
