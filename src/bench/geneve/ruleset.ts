/** A few chains of ours in tables of iptables, put in and taken out by one process each, without touching what else is there. */
import { must } from '../../lab/command.ts';
import { inNetns } from '../../lab/network/netns.ts';
import { all, type Step } from './step.ts';

export interface Chain {
  table: 'mangle' | 'nat';
  /** built-in chain whose first rule jumps to ours */
  hook: 'PREROUTING' | 'INPUT' | 'FORWARD' | 'OUTPUT' | 'POSTROUTING';
  name: string;
  /** without "-A NAME" */
  rules: readonly string[];
}

export interface RuleCounter {
  chain: string;
  /** as iptables-save prints it, without "-A CHAIN" */
  rule: string;
  packets: number;
}

/** One transaction per table. Going back takes out the tables too that were not there before. */
export function chainsStep(netns: string, ruleset: readonly Chain[]): Step {
  const tables = [...new Set(ruleset.map(({ table }) => table))];
  const of = (table: string): Chain[] => ruleset.filter((chain) => chain.table === table);
  const applied: string[] = [];
  let before: string[] = [];
  return {
    apply: async () => {
      before = await savedTables(netns);
      for (const table of tables) {
        await restore(netns, table, [...of(table).map(({ name }) => `-N ${name}`), ...of(table).flatMap(rulesAndJump)]);
        applied.push(table);
      }
    },
    revert: () =>
      all(
        ...applied.map((table) => async () => {
          const emptied = of(table).flatMap(({ hook, name }) => [`-D ${hook} -j ${name}`, `-F ${name}`]);
          await restore(netns, table, [...emptied, ...of(table).map(({ name }) => `-X ${name}`)]);
          if (!before.includes(table)) await removeEmptyTable(netns, table);
        }),
      ),
  };
}

/** Packets that each of our rules matched since it was added. */
export async function readCounters(netns: string, ruleset: readonly Chain[]): Promise<RuleCounter[]> {
  const names = new Set(ruleset.map(({ name }) => name));
  const saved = await must(inNetns(netns, ['iptables-save', '--counters']));
  return saved.split('\n').flatMap((line) => {
    const [, packets, chain, rule] = /^\[(\d+):\d+\] -A (\S+) (.*)$/.exec(line) ?? [];
    return chain === undefined || rule === undefined || !names.has(chain) ? [] : [{ chain, rule, packets: Number(packets) }];
  });
}

function rulesAndJump({ hook, name, rules }: Chain): string[] {
  return [...rules.map((rule) => `-A ${name} ${rule}`), `-I ${hook} -j ${name}`];
}

async function restore(netns: string, table: string, lines: readonly string[]): Promise<void> {
  const input = [`*${table}`, ...lines, 'COMMIT', ''].join('\n');
  await must(inNetns(netns, ['iptables-restore', '--noflush']), { input });
}

async function savedTables(netns: string): Promise<string[]> {
  const saved = await must(inNetns(netns, ['iptables-save']));
  return [...saved.matchAll(/^\*(\S+)$/gm)].map(([, table]) => table ?? '');
}

/** With nftables below, iptables makes a table at its first rule and leaves it for ever; the legacy one's tables can't be removed. */
async function removeEmptyTable(netns: string, table: string): Promise<void> {
  const saved = await must(inNetns(netns, ['iptables-save', '--table', table]));
  if (/^-A /m.test(saved) || !(await must(inNetns(netns, ['iptables', '--version']))).includes('nf_tables')) return;
  await must(inNetns(netns, ['nft', 'delete', 'table', 'ip', table]));
}
