/** What iptables-save -c prints, read. Pure. */
import { GUARD, OURS } from './render.ts';

export interface SavedRule {
  /** without "-A CHAIN" */
  spec: string;
  packets: number;
}

export interface SavedTable {
  /** user chains and base chains with their rules, in order */
  chains: Map<string, SavedRule[]>;
  /** base chains with a policy other than ACCEPT */
  guarded: boolean;
}

/** By table name. */
export type Saved = Map<string, SavedTable>;

const CHAIN = /^:(\S+) (\S+)/;
const RULE = /^(?:\[(\d+):\d+\] )?-A (\S+) ?(.*)$/;

export function parseSaved(text: string): Saved {
  const saved: Saved = new Map();
  let table: SavedTable | undefined;
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) {
      table = { chains: new Map(), guarded: false };
      saved.set(line.slice(1).trim(), table);
      continue;
    }
    const chain = CHAIN.exec(line);
    if (chain !== null) {
      table?.chains.set(chain[1] ?? '', []);
      if (table !== undefined && chain[2] !== '-' && chain[2] !== 'ACCEPT') table.guarded = true;
      continue;
    }
    const rule = RULE.exec(line);
    if (rule !== null) table?.chains.get(rule[2] ?? '')?.push({ spec: rule[3] ?? '', packets: Number(rule[1] ?? 0) });
  }
  return saved;
}

/** A rule's options in one order and one spelling: versions and variants print them differently. */
export function canonical(spec: string): string {
  const words = spec.replaceAll('"', '').split(/\s+/).filter(Boolean);
  const options: string[] = [];
  let current: string[] = [];
  const end = (): void => {
    if (current.length > 0 && !(current[0] === '-m')) options.push(current.join(' '));
    current = [];
  };
  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? '';
    const negates = word === '!' && (words[i + 1] ?? '').startsWith('-');
    if (negates || (word.startsWith('-') && current.join() !== '!')) end();
    current.push(word === '--to-port' ? '--to-ports' : word.replace(/\/(32|128)$/, ''));
  }
  end();
  return options.sort().join(' ');
}

export function isOurs(chain: string): boolean {
  return chain.startsWith(OURS);
}

/** Where a rule jumps to, if it is one of our chains. */
export function targetOf(spec: string): string | undefined {
  const target = /(?:^| )-[jg] (\S+)/.exec(spec)?.[1];
  return target !== undefined && isOurs(target) ? target : undefined;
}

export function hasGuard(saved: Saved): boolean {
  return saved.get('filter')?.chains.has(GUARD) === true;
}
