/** `culvert doctor`: what is not as it must be on this node, and what to do about it. */
import { hostname } from 'node:os';
import type { Command } from 'commander';
import type { Check } from '../agent/checks/check.ts';
import { agentConfigSchema, type AgentConfig } from '../agent/config.ts';
import { loadConfig } from '../base/config.ts';
import { ask } from './admin.ts';
import type { Cli } from './main.ts';
import { answer } from './output.ts';
import { fromAll, orWithoutAgent, reading, type ReadingOptions } from './reading.ts';
import { allSettings } from './settings.ts';
import type { Target } from './targets.ts';

interface Examination {
  node: string;
  checks: Check[];
}

const TIMEOUT_MS = 30_000;

export function addDoctor(root: Command, cli: Cli): void {
  reading(root, 'doctor')
    .description(
      'check the host, the CNI chain, the API server and the agent, also while it does not run; exit code 1 when something is wrong',
    )
    .action(async (options: ReadingOptions) => {
      const nodes = await fromAll(cli, options, async (target) => [
        await orWithoutAgent(
          cli,
          ask<Examination>(target, { op: 'doctor' }, { timeoutMs: TIMEOUT_MS }),
          () => alone(target),
          'checked without it',
        ),
      ]);
      await answer(cli.io, options.output, nodes, () => ({
        head: ['NODE', 'CHECK', 'OK', 'DETAIL', 'REMEDY'],
        rows: nodes.flatMap(({ node, checks }) =>
          checks.map(({ name, ok, detail, remedy }) => [node, name, ok ? 'yes' : 'NO', lines(detail), lines(remedy)]),
        ),
      }));
      if (nodes.some(({ checks }) => checks.some(({ ok }) => !ok))) cli.exit.code = Math.max(cli.exit.code, 1);
    });
}

/** By the agent's own configuration, where it is found: file and environment. */
async function alone(target: Target): Promise<Examination> {
  const config = configOf(target);
  const { examine } = await import('../agent/doctor.ts');
  const { openApi } = await import('../agent/open-source.ts');
  const api = await openApi(config);
  try {
    return { node: config.node, checks: await examine({ config, api, known: undefined }) };
  } finally {
    api?.close();
  }
}

function configOf({ node, runDir, pinDir, lab }: Target): AgentConfig {
  const name = node ?? process.env['CULVERT_NODE'] ?? hostname();
  const args = ['--node', name, '--run-dir', runDir, '--pin-dir', pinDir];
  const found = lab === undefined ? {} : { defaultFile: '/nonexistent' };
  const config = loadConfig(agentConfigSchema, { args, env: process.env, otherKeys: allSettings, ...found });
  return lab === undefined ? config : { ...config, nodeNetns: lab.node(name).netns };
}

/** A table's cell of bearable width. */
function lines(text: string): string {
  return text.replaceAll('; ', ';\n');
}
