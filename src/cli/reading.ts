/** What every reading command has in common: its format, and which agents it asks. */
import { Option, type Command } from 'commander';
import { CulvertError, describe, isCulvert } from '../base/errors.ts';
import type { Cli } from './main.ts';
import { formatOption, type Format } from './output.ts';
import { findTargets, type Target, type TargetOptions } from './targets.ts';

export interface ReadingOptions extends TargetOptions {
  output?: Format;
}

export function reading(root: Command, name: string): Command {
  return root
    .command(name)
    .addOption(formatOption())
    .option('--node <node>', 'only this node of a lab')
    .option('--lab <lab>', 'the nodes of this lab (default: the only lab, where no agent serves the host)')
    .addOption(new Option('--run-dir <dir>', 'the agent of this run directory'))
    .addOption(new Option('--pin-dir <dir>', "that agent's pins"));
}

/**
 * Asks every target and joins what they answer. Those that cannot answer are named on stderr, and the worst exit code wins; with
 * no answer at all the error itself is thrown.
 */
export async function fromAll<T>(cli: Cli, options: TargetOptions, question: (target: Target) => Promise<T[]>): Promise<T[]> {
  const answers = await Promise.allSettled(findTargets(options).map(question));
  const faults = answers.flatMap((answer) => (answer.status === 'rejected' ? [answer.reason as unknown] : []));
  if (faults.length === answers.length) throw faults[0];
  for (const fault of faults) {
    cli.io.err(`culvert: ${describe(fault)}\n`);
    cli.exit.code = Math.max(cli.exit.code, fault instanceof CulvertError ? fault.exit : 1);
  }
  return answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []));
}

/** The agent's answer, or, when it is not reachable, what can be read without it. */
export async function orWithoutAgent<T>(cli: Cli, asked: Promise<T>, without: () => T | Promise<T>, remark: string): Promise<T> {
  try {
    return await asked;
  } catch (error) {
    if (!isCulvert(error, 'AGENT_UNREACHABLE')) throw error;
    const answer = await without();
    cli.io.err(`culvert: ${describe(error)}; ${remark}\n`);
    return answer;
  }
}
