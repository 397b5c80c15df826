/**
 * What a program said of the rules of a netns, kept by the kernel's own words for them: rules that are word for word those of another
 * netns need no process to be read again. Pods' rules are of a few shapes, so nearly every reading is one dump of nf_tables.
 */
import { createHash } from 'node:crypto';
import { Netns } from '../../sys/netns.ts';

/** Shapes that are kept; the one that was not asked for longest goes first. */
const MOST = 64;

/** What rules have counted, in their order, by family's number, table and chain: "2 nat CULVERT_OUTPUT". */
export type Packets = ReadonlyMap<string, readonly number[]>;

export interface Known<T> {
  value: T;
  packets: Packets;
}

export class Memo<T> {
  readonly #known = new Map<string, T>();

  /** @param about what else the program's answer depends on @returns undefined: it must be asked @throws CulvertError SYSTEM */
  recall(netnsFd: number, about: string): Known<T> | { key: string } {
    const { key, packets } = look(netnsFd, about);
    const value = this.#known.get(key);
    if (value === undefined) return { key };
    this.#known.delete(key);
    this.#known.set(key, value); // the youngest
    return { value, packets };
  }

  /** After the program was asked; what changed meanwhile is not kept. @param key as `recall` gave it */
  keep(netnsFd: number, about: string, key: string, value: T): void {
    if (look(netnsFd, about).key !== key) return;
    this.#known.set(key, value);
    const [oldest] = this.#known.keys();
    if (this.#known.size > MOST && oldest !== undefined) this.#known.delete(oldest);
  }
}

function look(netnsFd: number, about: string): { key: string; packets: Packets } {
  const ruleset = Netns.adopt(netnsFd).run({ op: 'nft-ruleset' });
  const packets = new Map<string, number[]>();
  for (const rule of ruleset.packets) {
    const counted = packets.get(rule.chain) ?? [];
    packets.set(rule.chain, counted);
    counted.push(rule.packets);
  }
  return { key: `${about} ${createHash('sha256').update(ruleset.words).digest('hex')}`, packets };
}
