/** `culvert pods`: who is enrolled, who is not, and why. */
import type { Command } from 'commander';
import type { PodStatus } from '../agent/api.ts';
import { CulvertError } from '../base/errors.ts';
import { ask } from './admin.ts';
import type { Cli } from './main.ts';
import { answer, counts, type Table } from './output.ts';
import { podsFromPins } from './pins.ts';
import { fromAll, orWithoutAgent, reading, type ReadingOptions } from './reading.ts';

export function addPods(root: Command, cli: Cli): void {
  reading(root, 'pods')
    .description('every pod: enrolled or not, the reason, and its counters; also from the pins while the agent is down')
    .argument('[pod]', 'namespace/name')
    .action(async (pod: string | undefined, options: ReadingOptions) => {
      const all = await fromAll(cli, options, (target) =>
        orWithoutAgent(cli, ask<PodStatus[]>(target, { op: 'pods' }), () => podsFromPins(target), 'read from the pins'),
      );
      const chosen = all.filter((candidate) => pod === undefined || `${candidate.namespace}/${candidate.name}` === pod);
      if (pod !== undefined && chosen.length === 0) throw new CulvertError('POD_UNKNOWN', `find pod ${pod}: no agent knows it`);
      await answer(cli.io, options.output, chosen, () => table(chosen));
    });
}

function table(pods: PodStatus[]): Table {
  return {
    head: ['POD', 'NODE', 'STATE', 'DATAPATH', 'DRIVER', 'IPS', 'OUT', 'IN', 'PASSED', 'DROPPED', 'REASON'],
    rows: pods.map((pod) => [
      `${pod.namespace}/${pod.name}`,
      pod.node,
      pod.state,
      pod.datapath,
      pod.datapath === 'none' ? '' : pod.driver,
      pod.ips.join('\n'),
      String(pod.counters.outboundRedirected),
      String(pod.counters.inboundRedirected),
      [counts(pod.counters.outboundPassed), counts(pod.counters.inboundPassed)].filter((text) => text !== '').join('; '),
      counts(pod.counters.dropped),
      [pod.reason, ...(pod.warnings ?? [])].join('\n'),
    ]),
  };
}
