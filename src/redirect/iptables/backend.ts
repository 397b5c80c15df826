/**
 * Our rules by iptables: one iptables-save reads a family, one iptables-restore writes it, both families' in one process. Of iptables-nft
 * a ruleset that was read before is not read by a process again.
 */
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CulvertError } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { Netns } from '../../sys/netns.ts';
import type { DatapathState } from '../driver.ts';
import type { Backend, Found, Member, Site } from '../netfilter/backend.ts';
import { demandAll, demandAllSync, lastWords, runAll, type Command, type Place } from '../netfilter/command.ts';
import { Memo, type Asked, type Packets } from '../netfilter/memo.ts';
import { nodeRules, podRules, type Family, type Shape, type Stage } from '../netfilter/rules.ts';
import { membersOf, setsGone, setsMade } from './ipset.ts';
import { differences, ofFamily, onlyOurs, planOf, stageIn, stepOf, wantedOf, type Wanted } from './plan.ts';
import { BASE, CHAIN, specOf } from './render.ts';
import { canonical, hasGuard, isOurs, parseSaved, type Saved } from './saved.ts';
import { WAIT, type Variant } from './variant.ts';

type PerFamily = Map<Family, Saved>;

/** Numbers of the families in the kernel: NFPROTO_IPV4, NFPROTO_IPV6. */
const NFPROTO: Readonly<Record<Family, number>> = { 4: 2, 6: 10 };

class FoundRules implements Found {
  readonly saved: PerFamily;
  readonly #packets: Packets | undefined;

  /** @param packets by now, where `saved` is of another reading of the same rules */
  constructor(saved: PerFamily, packets?: Packets) {
    this.saved = saved;
    this.#packets = packets;
  }

  /** IPv4's, which every pod has. */
  get stage(): DatapathState {
    const four = this.saved.get(4);
    return four === undefined ? 'none' : stageIn(four);
  }

  differences(shape: Shape, stage: Stage): string[] {
    return [...this.saved].flatMap(([family, saved]) => {
      const guard = hasGuard(saved) ? [`IPv${family} filter: the guard of an interrupted repair is still there`] : [];
      return [...differences(saved, wantedOf(shape, stage, family), family), ...guard];
    });
  }

  counts(shape: Shape): Map<string, number> {
    const counts = new Map<string, number>();
    for (const [family, saved] of this.saved) {
      for (const rule of ofFamily(podRules(shape), family)) {
        const spec = canonical(specOf(rule, family));
        const chain = CHAIN[rule.chain];
        const rules = saved.get(rule.table)?.chains.get(chain) ?? [];
        const at = rules.findIndex((each) => canonical(each.spec) === spec);
        const now = this.#packets?.get(`${NFPROTO[family]} ${rule.table} ${chain}`)?.[at];
        counts.set(rule.id, (counts.get(rule.id) ?? 0) + (now ?? rules[at]?.packets ?? 0));
      }
    }
    return counts;
  }
}

export interface IptablesOptions {
  variant: Variant;
  /** nft is there: tables that iptables-nft made for us are taken off again by it */
  nft: boolean;
  /** directory of ours; the lock for pods is there, whose rules nobody else's lock guards */
  stateDir: string;
  log: Logger;
}

export class Iptables implements Backend {
  readonly kind = 'iptables';
  readonly version: string;
  readonly #o: IptablesOptions;
  readonly #memo = new Memo<PerFamily>();

  constructor(options: IptablesOptions) {
    this.#o = options;
    this.version = options.variant.version;
  }

  async read(site: Site): Promise<FoundRules> {
    const known = this.#recall(site);
    if (known instanceof FoundRules) return known;
    return this.#found(site, known, await demandAll(this.#place(site), this.#saves(site)));
  }

  readSync(site: Site): FoundRules {
    const known = this.#recall(site);
    if (known instanceof FoundRules) return known;
    return this.#found(site, known, demandAllSync(this.#place(site), this.#saves(site)));
  }

  async write(site: Site, shape: Shape, stage: Stage, from: DatapathState | Found): Promise<void> {
    if (typeof from === 'string' && (await this.#step(site, shape, stage, from))) return;
    const { saved } = from instanceof FoundRules ? from : await this.read(site);
    this.#note(site, saved);
    const plans = this.#families(site).map(([family, program]) => {
      const now = saved.get(family) ?? (new Map() as Saved);
      const guarded =
        stage === 'active' && stageIn(now) !== 'none' && differences(now, wantedOf(shape, 'prepared', family), family).length > 0;
      return restore(program, planOf(now, wantedOf(shape, stage, family), { guarded }));
    });
    await demandAll(this.#place(site), plans.flat());
  }

  async clear(site: Site): Promise<void> {
    const { saved } = await this.read(site);
    const before = new Set(site.notes.tables ?? []);
    const useless = new Map<Family, string[]>();
    for (const [family, tables] of saved) {
      const made = (table: string): boolean => site.notes.tables !== undefined && !before.has(`${family} ${table}`);
      useless.set(family, this.#o.nft && !this.#o.variant.legacy ? onlyOurs(tables).filter(made) : []);
    }
    const plans = this.#families(site).map(([family, program]) => {
      const rest = new Map([...(saved.get(family) ?? [])].filter(([table]) => useless.get(family)?.includes(table) !== true));
      return restore(program, planOf(rest, new Map()));
    });
    const deletions = [...useless].flatMap(([family, tables]) => tables.map((table) => deletion(family, table)));
    await demandAll(this.#place(site), [...plans.flat(), ...nft(deletions)]);
  }

  /** The sets first: the rule is refused without them. */
  async writeNode(netnsFd: number, members: readonly Member[]): Promise<void> {
    const node = { netnsFd };
    await demandAll(node, [{ argv: ['ipset', '-exist', 'restore'], input: setsMade(members) }]);
    await this.#onNode(netnsFd, (family): Wanted => {
      const specs = ofFamily(nodeRules(), family).map((rule) => ({ id: rule.id, spec: specOf(rule, family) }));
      return new Map([['nat', { chains: new Map([[CHAIN.postrouting, specs]]), jumps: [`${BASE.postrouting} -j ${CHAIN.postrouting}`] }]]);
    });
  }

  async clearNode(netnsFd: number): Promise<void> {
    await this.#onNode(netnsFd, () => new Map());
    await this.#dropNodeTables(netnsFd);
    // one by one: what is not there is no reason to leave the other
    await runAll(
      { netnsFd },
      setsGone().map((set) => ({ argv: ['ipset', 'destroy', set] })),
    );
  }

  changeMembers(netnsFd: number, add: boolean, members: readonly Member[]): Promise<void> {
    return Promise.resolve().then(() => void Netns.adopt(netnsFd).runAll(membersOf(add, members)));
  }

  async #onNode(netnsFd: number, wanted: (family: Family) => Wanted): Promise<void> {
    const plans: Command[] = [];
    for (const { family, program, saved } of await this.#savedOnNode(netnsFd)) {
      const plan = planOf(saved, wanted(family), { place: '-I' });
      if (plan !== '' && !saved.has('nat')) writeFileSync(this.#madeFile(family), '');
      plans.push(...restore(program, plan));
    }
    await demandAll({ netnsFd }, plans);
  }

  async #savedOnNode(netnsFd: number): Promise<{ family: Family; program: string; saved: Saved }[]> {
    const programs = this.#programs();
    // asked for `nat` alone it would make one
    const texts = await demandAll(
      { netnsFd },
      programs.map(([, program]) => ({ argv: [`${program}-save`] })),
    );
    return programs.map(([family, program], i) => ({ family, program, saved: parseSaved(texts[i] ?? '') }));
  }

  /** `nat` that was made for our rule, unless others have put something into it. */
  async #dropNodeTables(netnsFd: number): Promise<void> {
    if (!this.#programs().some(([family]) => existsSync(this.#madeFile(family)))) return;
    const made = (await this.#savedOnNode(netnsFd)).filter(({ family }) => existsSync(this.#madeFile(family)));
    const useless = made.filter(({ saved }) => this.#o.nft && !this.#o.variant.legacy && onlyOurs(saved).includes('nat'));
    await demandAll({ netnsFd }, nft(useless.map(({ family }) => deletion(family, 'nat'))));
    for (const { family } of made) rmSync(this.#madeFile(family), { force: true });
  }

  #madeFile(family: Family): string {
    return join(this.#o.stateDir, `made-nat-v${family}`);
  }

  /** @returns false when it was refused, or there is no such step: then it takes a look first */
  async #step(site: Site, shape: Shape, stage: Stage, from: DatapathState): Promise<boolean> {
    const steps = this.#families(site).map(([family, program]) => ({ program, step: stepOf(shape, from, stage, family) }));
    if (steps.some(({ step }) => step === undefined)) return false;
    const results = await runAll(
      this.#place(site),
      steps.flatMap(({ program, step }) => restore(program, step ?? '')),
    );
    const refused = results.find(({ code }) => code !== 0);
    if (refused !== undefined) this.#o.log.warn({ stage, from, why: lastWords(refused) }, 'rules of a pod are not as they were left');
    return refused === undefined;
  }

  /** Which tables were there before ours, once. */
  #note(site: Site, saved: PerFamily): void {
    site.notes.tables ??= [...saved].flatMap(([family, tables]) =>
      [...tables.keys()]
        .filter((table) => ![...(tables.get(table)?.chains.keys() ?? [])].some(isOurs))
        .map((table) => `${family} ${table}`),
    );
  }

  /** Of legacy iptables nf_tables says nothing. @returns what `#found` is to keep it by */
  #recall(site: Site): FoundRules | Asked | undefined {
    if (this.#o.variant.legacy) return undefined;
    const known = this.#memo.recall(site.netnsFd, site.families.join());
    return 'key' in known ? known : new FoundRules(known.value, known.packets);
  }

  #saves(site: Site): Command[] {
    return this.#families(site).map(([, program]) => ({ argv: [`${program}-save`, '-c'] }));
  }

  #found(site: Site, asked: Asked | undefined, texts: readonly string[]): FoundRules {
    const families = this.#families(site);
    if (families.length === 0) throw new CulvertError('SYSTEM', `read rules of netns ${site.netnsFd}: no iptables for it`);
    const saved: PerFamily = new Map(families.map(([family], i) => [family, parseSaved(texts[i] ?? '')]));
    if (asked !== undefined) this.#memo.keep(site.netnsFd, site.families.join(), asked, saved);
    return new FoundRules(saved);
  }

  #families(site: Site): [Family, string][] {
    return this.#programs().filter(([family]) => site.families.includes(family));
  }

  #programs(): [Family, string][] {
    const { programs } = this.#o.variant;
    return ([4, 6] as const).flatMap((family) => (programs[family] === undefined ? [] : [[family, programs[family]] as [Family, string]]));
  }

  #place(site: Site): Place {
    return { netnsFd: site.netnsFd, env: { XTABLES_LOCKFILE: join(this.#o.stateDir, 'xtables.lock') } };
  }
}

function deletion(family: Family, table: string): string {
  return `delete table ${family === 4 ? 'ip' : 'ip6'} ${table}\n`;
}

/** None for a plan of nothing. */
function restore(program: string, plan: string): Command[] {
  return plan === '' ? [] : [{ argv: [`${program}-restore`, ...WAIT, '--noflush'], input: plan }];
}

function nft(lines: readonly string[]): Command[] {
  return lines.length === 0 ? [] : [{ argv: ['nft', '-f', '-'], input: lines.join('') }];
}
