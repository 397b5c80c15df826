/**
 * What a program said of the rules of a netns, kept by the kernel's own words for them: rules that are word for word those of another
 * netns need no process to be read again. Pods' rules are of a few shapes, so nearly every reading is one dump of nf_tables.
 */
import { createHash } from 'node:crypto';
import { Netns } from '../../sys/netns.ts';

/** Shapes that are kept; the one that was not asked for longest goes first. */
const MOST = 64;
/** Bytes of the kernel's words; ours are a few thousand. A pod that can write rules could fill the agent's memory with them. */
const LARGEST = 128 << 10;

/** What rules have counted, in their order, by family's number, table and chain: "2 nat CULVERT_OUTPUT". */
export type Packets = ReadonlyMap<string, readonly number[]>;

export interface Known<T> {
  value: T;
  packets: Packets;
}

/** Not known: whose rules they are, as its descriptor may be another netns' by the time of the answer, and what to keep that by. */
export interface Asked {
  netns: bigint;
  key: string | undefined;
}

export class Memo<T> {
  readonly #known = new Map<string, T>();

  /** @param about what else the program's answer depends on @throws CulvertError SYSTEM */
  recall(netnsFd: number, about: string): Known<T> | Asked {
    const { key, packets } = look(netnsFd, about);
    const value = key === undefined ? undefined : this.#known.get(key);
    if (key === undefined || value === undefined) return { netns: Netns.adopt(netnsFd).cookie, key };
    this.#known.delete(key);
    this.#known.set(key, value); // the youngest
    return { value, packets };
  }

  /** After the program was asked; what changed meanwhile, or is gone, is not kept. Never throws. @param asked as `recall` gave it */
  keep(netnsFd: number, about: string, asked: Asked, value: T): void {
    if (asked.key === undefined || !isStill(netnsFd, about, asked)) return;
    this.#known.set(asked.key, value);
    const [oldest] = this.#known.keys();
    if (this.#known.size > MOST && oldest !== undefined) this.#known.delete(oldest);
  }
}

function isStill(netnsFd: number, about: string, { netns, key }: Asked): boolean {
  try {
    return Netns.adopt(netnsFd).cookie === netns && look(netnsFd, about).key === key;
  } catch {
    return false; // closed
  }
}

/** Without a key where there are too many to be kept. */
function look(netnsFd: number, about: string): { key: string | undefined; packets: Packets } {
  const ruleset = Netns.adopt(netnsFd).run({ op: 'nft-ruleset' });
  const packets = new Map<string, number[]>();
  for (const rule of ruleset.packets) {
    const counted = packets.get(rule.chain) ?? [];
    packets.set(rule.chain, counted);
    counted.push(rule.packets);
  }
  if (ruleset.words.length > LARGEST) return { key: undefined, packets };
  return { key: `${about} ${createHash('sha256').update(ruleset.words).digest('hex')}`, packets };
}
