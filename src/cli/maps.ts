/** `culvert maps`: the redirect maps, decoded and joined with pods. Read from the pins: it needs no agent. */
import type { Command } from 'commander';
import type { AgentStatus } from '../agent/api.ts';
import { isCulvert } from '../base/errors.ts';
import { ask } from './admin.ts';
import type { Cli } from './main.ts';
import { answer, type Table } from './output.ts';
import { mapsFromPins, type NodeMap } from './pins.ts';
import { fromAll, reading, type ReadingOptions } from './reading.ts';
import type { Target } from './targets.ts';

export function addMaps(root: Command, cli: Cli): void {
  reading(root, 'maps')
    .description('the redirect maps with their rows; also while the agent is down')
    .argument('[name]', 'only this map')
    .action(async (name: string | undefined, options: ReadingOptions) => {
      const maps = await fromAll(cli, options, (target) => mapsOf(cli, target, name));
      await answer(cli.io, options.output, maps, () => table(maps));
    });
}

/** A node whose driver programs rules has none, and says so. */
async function mapsOf(cli: Cli, target: Target, name: string | undefined): Promise<NodeMap[]> {
  try {
    return mapsFromPins(target, name);
  } catch (error) {
    if (!isCulvert(error, 'AGENT_UNREACHABLE')) throw error; // there are no pins
    const status = await ask<AgentStatus>(target, { op: 'status' }).catch(() => undefined);
    if (status === undefined || status.driver.name === 'ebpf') throw error;
    const { node, driver } = status;
    const why = [driver.forced ? 'as redirectDriver says' : '', ...driver.reasons].filter((reason) => reason !== '').join('; ');
    cli.io.err(`node ${node}: there are no maps, its driver is ${driver.name} (${why}); "culvert pods" has the counters of its rules\n`);
    return [];
  }
}

/** One line per row, and one for an empty map, so that its fill level is seen too. */
function table(maps: NodeMap[]): Table {
  const rows = maps.flatMap((map) => {
    const lead = [map.node, map.map, map.type, `${map.entries}/${map.maxEntries}`];
    if (map.rows.length === 0) return [[...lead, '', '', '']];
    return map.rows.map((row, i) => {
      const { pod, stale, ...fields } = row;
      const text = Object.entries(fields).map(([key, value]) => `${key} ${Array.isArray(value) ? value.join('+') || '-' : String(value)}`);
      return [...(i === 0 ? lead : ['', '', '', '']), pod ?? '', stale ? 'stale' : '', text.join('  ')];
    });
  });
  return { head: ['NODE', 'MAP', 'TYPE', 'FILL', 'POD', '', 'ENTRY'], rows };
}
