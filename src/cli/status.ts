/** `culvert status`: one line per node. */
import type { Command } from 'commander';
import type { AgentStatus } from '../agent/api.ts';
import { ask } from './admin.ts';
import type { Cli } from './main.ts';
import { answer } from './output.ts';
import { fromAll, reading, type ReadingOptions } from './reading.ts';

export function addStatus(root: Command, cli: Cli): void {
  reading(root, 'status')
    .description('is the agent ready, which driver and tunnel, how many pods; exit code 1 when it is not ready')
    .action(async (options: ReadingOptions) => {
      const nodes = await fromAll(cli, options, async (target) => [await ask<AgentStatus>(target, { op: 'status' })]);
      await answer(cli.io, options.output, nodes, () => ({
        head: [
          'NODE',
          'READY',
          'DRIVER',
          'TUNNEL',
          'ENROLLED',
          'PENDING',
          'NOT ENROLLED',
          'SOURCE',
          'PLUGIN',
          'VERSION',
          'KERNEL',
          'PROBLEMS',
        ],
        rows: nodes.map((node) => [
          node.node,
          node.ready ? 'yes' : 'no',
          `${node.driver.name}${node.driver.forced ? ' (forced)' : ''}${node.driver.reasons.map((reason) => `\n${reason}`).join('')}`,
          `${node.tunnel.kind}, ${node.tunnel.connections.length === 0 ? 'not connected' : `since ${node.tunnel.connections.map((connection) => connection.since).join(', ')}`}`,
          String(node.pods.enrolled),
          String(node.pods.pending),
          String(node.pods.notEnrolled),
          `${node.source.kind}, ${node.source.synced ? 'synced' : 'not synced'}`,
          node.install === undefined ? '' : node.install.ready ? node.install.file : 'not installed',
          node.version,
          node.kernel,
          node.problems.join('\n'),
        ]),
      }));
      if (nodes.some((node) => !node.ready)) cli.exit.code = Math.max(cli.exit.code, 1);
    });
}
