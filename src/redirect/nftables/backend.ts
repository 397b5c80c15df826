/**
 * Our rules by nft: one process reads what was not read before, one transaction writes, both families and all tables at once. So a
 * repair needs no guard: there is no moment between the old rules and the new ones.
 */
import { CulvertError, describe } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { DatapathState } from '../driver.ts';
import type { Backend, Found, Member, Notes, Site } from '../netfilter/backend.ts';
import { demand, lastWords, run, runSync, type CommandResult } from '../netfilter/command.ts';
import { Memo, type Asked, type Packets } from '../netfilter/memo.ts';
import {
  chainsAt,
  jumpsAt,
  rulesAt,
  stageOf,
  type Chain,
  type Family,
  type Hook,
  type Shape,
  type Stage,
  type Table,
} from '../netfilter/rules.ts';
import { parseListed, type Listed } from './listed.ts';
import { chainName, elements, hookOf, node, nothing, ofFamilies, step, tableName, TABLES, tablesOf, whole } from './render.ts';

const LIST = ['nft', '-j', 'list', 'ruleset', 'inet'];
const APPLY = ['nft', '-f', '-'];
/** Prints back what the kernel took. The commands are an argument: with -j it would open its input anew, which a socket does not allow. */
const APPLY_AND_ECHO = ['nft', '-j', '-e'];
/** The number of family inet in the kernel. */
const NFPROTO_INET = 1;
const HOOKS: readonly Hook[] = ['prerouting', 'output'];
const OURS: ReadonlySet<string> = new Set(TABLES.map(tableName));

class FoundRules implements Found {
  readonly #listed: Listed;
  readonly #families: readonly Family[];
  readonly #notes: Notes;
  readonly #packets: Packets | undefined;

  /** @param packets by now, where `listed` is of another reading of the same rules */
  constructor(listed: Listed, { families, notes }: Site, packets?: Packets) {
    this.#listed = listed;
    this.#packets = packets;
    this.#families = families;
    this.#notes = notes;
  }

  get stage(): DatapathState {
    return stageOf((table, chain) => ({
      filled: this.#rules(tableName(table), chainName(chain)).length > 0,
      jumped: this.#listed.rules.some((rule) => rule.table === tableName(table) && rule.jump === chainName(chain)),
    }));
  }

  differences(shape: Shape, stage: Stage): string[] {
    const said: string[] = [];
    for (const table of tablesOf(shape)) {
      if (this.#listed.tables.includes(tableName(table))) said.push(...this.#inTable(shape, stage, table));
      else said.push(`table ${tableName(table)} is missing`);
    }
    return [...said, ...this.surplus(shape, stage).map((line) => line.replace(/^delete (\S+) inet (.*)$/, '$1 $2 is one too many'))];
  }

  counts(): Map<string, number> {
    const counts = new Map<string, number>();
    const passed = new Map<string, number>();
    for (const { table, chain, comment, packets } of this.#listed.rules) {
      const where = `${NFPROTO_INET} ${table} ${chain}`;
      const at = passed.get(where) ?? 0;
      passed.set(where, at + 1);
      if (!OURS.has(table) || comment === undefined) continue;
      counts.set(comment, (counts.get(comment) ?? 0) + (this.#packets?.get(where)?.[at] ?? packets));
    }
    return counts;
  }

  /** As commands that delete it; jumps to such chains are gone by then. */
  surplus(shape: Shape, stage: Stage): string[] {
    const wanted = tablesOf(shape).map(tableName);
    const tables = this.#listed.tables.filter((table) => OURS.has(table) && !wanted.includes(table));
    const known = new Set([
      ...wanted.flatMap((table) => HOOKS.map((hook) => `${table} ${hook}`)),
      ...chainsAt(shape, stage).map(({ table, chain }) => `${tableName(table)} ${chainName(chain)}`),
    ]);
    const chains = this.#listed.chains.filter(({ table, name }) => wanted.includes(table) && !known.has(`${table} ${name}`));
    return [
      ...chains.map(({ table, name }) => `delete chain inet ${table} ${name}`),
      ...tables.map((table) => `delete table inet ${table}`),
    ];
  }

  #inTable(shape: Shape, stage: Stage, table: Table): string[] {
    const said: string[] = [];
    const name = tableName(table);
    for (const hook of HOOKS) {
      const chain = this.#listed.chains.find((each) => each.table === name && each.name === hook);
      const { type, priority } = hookOf(table, hook);
      if (chain === undefined) said.push(`${name} ${hook}: the chain is missing`);
      else if (chain.type !== type || chain.hook !== hook || chain.prio !== priority)
        said.push(`${name} ${hook}: the chain hooks in elsewhere`);
      const wanted = jumpsAt(shape, stage).filter((jump) => jump.table === table && jump.from === hook);
      const found = this.#rules(name, hook).map((rule) => rule.jump ?? rule.text);
      said.push(
        ...compare(
          `${name} ${hook}`,
          found,
          wanted.map(({ to }) => chainName(to)),
          'the jump to ',
        ),
      );
    }
    for (const { chain } of chainsAt(shape, stage).filter((each) => each.table === table))
      said.push(...this.#inChain(shape, stage, table, chain));
    return said;
  }

  #inChain(shape: Shape, stage: Stage, table: Table, chain: Chain): string[] {
    const where = `${tableName(table)} ${chainName(chain)}`;
    if (!this.#listed.chains.some((each) => each.table === tableName(table) && each.name === chainName(chain)))
      return [`${where}: the chain is missing`];
    const wanted = ofFamilies(rulesAt(shape, stage), this.#families).filter((rule) => rule.table === table && rule.chain === chain);
    const found = this.#rules(tableName(table), chainName(chain));
    const said = compare(
      where,
      found.map(({ comment, text }) => comment ?? text),
      wanted.map(({ id }) => id),
      'rule ',
    );
    for (const { comment, text } of found) {
      const written = comment === undefined ? undefined : this.#notes.written?.[`${where} ${comment}`];
      if (written !== undefined && written !== text) said.push(`${where}: rule ${comment ?? ''} is changed (${text})`);
    }
    return said;
  }

  #rules(table: string, chain: string): Listed['rules'] {
    return this.#listed.rules.filter((rule) => rule.table === table && rule.chain === chain);
  }
}

function compare(where: string, found: readonly string[], wanted: readonly string[], what: string): string[] {
  const missing = wanted.filter((each) => !found.includes(each)).map((each) => `${where}: ${what}${each} is missing`);
  const extra = found.filter((each) => !wanted.includes(each)).map((each) => `${where}: a rule is not ours (${each})`);
  if (missing.length + extra.length > 0) return [...missing, ...extra];
  if (found.length !== wanted.length) return [`${where}: a rule is there twice`];
  return found.some((each, i) => each !== wanted[i]) ? [`${where}: the rules are in another order`] : [];
}

export class Nftables implements Backend {
  readonly kind = 'nftables';
  readonly version: string;
  readonly #log: Logger;
  readonly #memo = new Memo<Listed>();

  constructor(version: string, log: Logger) {
    this.version = version;
    this.#log = log;
  }

  async read(site: Site): Promise<FoundRules> {
    const known = this.#memo.recall(site.netnsFd, '');
    return 'key' in known ? this.#found(site, known, await run(site, LIST)) : new FoundRules(known.value, site, known.packets);
  }

  readSync(site: Site): FoundRules {
    const known = this.#memo.recall(site.netnsFd, '');
    return 'key' in known ? this.#found(site, known, runSync(site, LIST)) : new FoundRules(known.value, site, known.packets);
  }

  async write(site: Site, shape: Shape, stage: Stage, from: DatapathState | Found): Promise<void> {
    if (typeof from === 'string' && (await this.#step(site, shape, stage, from))) return;
    const now = from instanceof FoundRules ? from : await this.read(site);
    await this.#apply(site, whole(shape, stage, site.families, now.surplus(shape, stage)));
  }

  async clear(site: Site): Promise<void> {
    demand(APPLY, await run(site, APPLY, nothing()));
  }

  async writeNode(netnsFd: number, members: readonly Member[]): Promise<void> {
    demand(APPLY, await run({ netnsFd }, APPLY, node(members)));
  }

  async clearNode(netnsFd: number): Promise<void> {
    demand(APPLY, await run({ netnsFd }, APPLY, nothing()));
  }

  async changeMembers(netnsFd: number, add: boolean, members: readonly Member[]): Promise<void> {
    const text = elements(add, members);
    if (text !== '') demand(APPLY, await run({ netnsFd }, APPLY, text));
  }

  /** @returns false when it was refused, or there is no such step */
  async #step(site: Site, shape: Shape, stage: Stage, from: DatapathState): Promise<boolean> {
    const text = step(shape, from, stage, site.families);
    if (text === undefined) return false;
    try {
      await this.#apply(site, text);
      return true;
    } catch (error) {
      this.#log.warn({ stage, from, why: describe(error) }, 'rules of a pod are not as they were left');
      return false;
    }
  }

  /** @throws CulvertError SYSTEM */
  #found(site: Site, asked: Asked, result: CommandResult): FoundRules {
    const text = demand(LIST, result);
    try {
      const listed = parseListed(text);
      this.#memo.keep(site.netnsFd, '', asked, listed);
      return new FoundRules(listed, site);
    } catch (error) {
      throw new CulvertError('SYSTEM', `read rules by ${LIST.join(' ')}`, error);
    }
  }

  async #apply(site: Site, text: string): Promise<void> {
    const echo = demand(APPLY_AND_ECHO, await run(site, [...APPLY_AND_ECHO, text]));
    try {
      const written = parseListed(echo).rules.flatMap((rule) =>
        rule.comment === undefined ? [] : [[`${rule.table} ${rule.chain} ${rule.comment}`, rule.text] as const],
      );
      site.notes.written = { ...site.notes.written, ...Object.fromEntries(written) };
    } catch (error) {
      // then rules are compared by their names alone
      this.#log.debug({ error: describe(error) }, 'echo of nft not understood');
    }
  }
}

/** @returns a sentence when nft cannot be used here; tried in a netns that goes with the process */
export async function openNftables(nodeFd: number, log: Logger): Promise<Nftables | string> {
  const place = { netnsFd: nodeFd };
  const said = await run(place, ['nft', '--version']);
  if (said.code === 127) return 'nft is not installed (package nftables)';
  if (said.code !== 0) return `nft: ${lastWords(said)}`;
  const tried = await run(
    place,
    ['unshare', '--net', '--', ...APPLY],
    whole({ dns: true, ingressMode: false, virtualInterfaces: [] }, 'active', [4, 6]),
  );
  if (tried.code !== 0) return `nft: ${lastWords(tried)}`;
  const json = await run(place, LIST);
  if (json.code !== 0) return `nft -j: ${lastWords(json)}`;
  return new Nftables(`nft ${/v(\d[\d.]*)/.exec(said.stdout)?.[1] ?? 'of unknown version'}`, log);
}
