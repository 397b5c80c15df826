/** `culvert verify`: real connections out of and into pods, proven by the datapath's own events. */
import type { Command } from 'commander';
import type { VerifyResult } from '../agent/api.ts';
import { CulvertError } from '../base/errors.ts';
import { ask } from './admin.ts';
import type { Cli } from './main.ts';
import { answer } from './output.ts';
import { fromAll, reading, type ReadingOptions } from './reading.ts';

/** Six seconds per pod at the worst, asked for one after another by the agent. */
const TIMEOUT_MS = 120_000;

export function addVerify(root: Command, cli: Cli): void {
  reading(root, 'verify')
    .description('try the redirect of one pod, or of all enrolled ones; exit code 1 when one does not hold')
    .argument('[pod]', 'namespace/name')
    .option('--all', 'every enrolled pod')
    .action(async (pod: string | undefined, options: ReadingOptions & { all?: boolean }) => {
      if ((pod === undefined) === (options.all !== true)) throw new CulvertError('USAGE', 'verify: name one pod (NS/NAME) or say --all');
      const progress = cli.io.tty;
      if (progress) cli.io.err('verifying…\r');
      const results = await verify(cli, options, pod);
      if (progress) cli.io.err('\u001b[K');
      await answer(cli.io, options.output, results, () => ({
        head: ['POD', 'NODE', 'OK', 'OUTBOUND', 'INBOUND'],
        rows: results.map((result) => [result.pod, result.node, result.ok ? 'yes' : 'NO', said(result.outbound), said(result.inbound)]),
      }));
      if (results.some((result) => !result.ok)) cli.exit.code = Math.max(cli.exit.code, 1);
    });
}

/** A pod is known to its own node only: the others' "unknown" counts when nobody knows it. */
async function verify(cli: Cli, options: ReadingOptions, pod: string | undefined): Promise<VerifyResult[]> {
  const question = pod === undefined ? { op: 'verify' as const } : { op: 'verify' as const, pod };
  let unknown: CulvertError | undefined;
  const results = await fromAll(cli, options, async (target) => {
    try {
      return await ask<VerifyResult[]>(target, question, { timeoutMs: TIMEOUT_MS });
    } catch (error) {
      if (pod === undefined || !(error instanceof CulvertError) || !error.message.includes('POD_UNKNOWN')) throw error;
      unknown = error;
      return [];
    }
  });
  if (pod !== undefined && results.length === 0 && unknown !== undefined) throw unknown;
  return results;
}

function said(side: { ok: boolean; detail: string }): string {
  return side.ok ? side.detail : `NO: ${side.detail}`;
}
