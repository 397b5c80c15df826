/** Our rules by iptables: one iptables-save reads a family, one iptables-restore writes it. */
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CulvertError } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { DatapathState } from '../driver.ts';
import type { Backend, Found, Member, Site } from '../netfilter/backend.ts';
import { demand, lastWords, run, runSync, type Place } from '../netfilter/command.ts';
import { nodeRules, podRules, type Family, type Shape, type Stage } from '../netfilter/rules.ts';
import { membersOf, setsGone, setsMade } from './ipset.ts';
import { differences, ofFamily, onlyOurs, planOf, stageIn, stepOf, wantedOf, type Wanted } from './plan.ts';
import { BASE, CHAIN, specOf } from './render.ts';
import { canonical, hasGuard, isOurs, parseSaved, type Saved } from './saved.ts';
import { WAIT, type Variant } from './variant.ts';

type PerFamily = Map<Family, Saved>;

class FoundRules implements Found {
  readonly saved: PerFamily;

  constructor(saved: PerFamily) {
    this.saved = saved;
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
        const found = saved
          .get(rule.table)
          ?.chains.get(CHAIN[rule.chain])
          ?.find((each) => canonical(each.spec) === spec);
        counts.set(rule.id, (counts.get(rule.id) ?? 0) + (found?.packets ?? 0));
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

  constructor(options: IptablesOptions) {
    this.#o = options;
    this.version = options.variant.version;
  }

  async read(site: Site): Promise<FoundRules> {
    const each = await Promise.all(
      this.#families(site).map(async ([family, program]) => {
        const argv = [`${program}-save`, '-c'];
        return [family, parseSaved(demand(argv, await run(this.#place(site), argv)))] as const;
      }),
    );
    return this.#found(site, each);
  }

  readSync(site: Site): FoundRules {
    const each = this.#families(site).map(([family, program]) => {
      const argv = [`${program}-save`, '-c'];
      return [family, parseSaved(demand(argv, runSync(this.#place(site), argv)))] as const;
    });
    return this.#found(site, each);
  }

  async write(site: Site, shape: Shape, stage: Stage, from: DatapathState | Found): Promise<void> {
    if (typeof from === 'string' && (await this.#step(site, shape, stage, from))) return;
    const { saved } = from instanceof FoundRules ? from : await this.read(site);
    this.#note(site, saved);
    await Promise.all(
      this.#families(site).map(async ([family, program]) => {
        const now = saved.get(family) ?? (new Map() as Saved);
        const guarded =
          stage === 'active' && stageIn(now) !== 'none' && differences(now, wantedOf(shape, 'prepared', family), family).length > 0;
        const plan = planOf(now, wantedOf(shape, stage, family), { guarded });
        if (plan !== '') await this.#restore(this.#place(site), program, plan);
      }),
    );
  }

  async clear(site: Site): Promise<void> {
    const { saved } = await this.read(site);
    const before = new Set(site.notes.tables ?? []);
    const useless = new Map<Family, string[]>();
    for (const [family, tables] of saved) {
      const made = (table: string): boolean => site.notes.tables !== undefined && !before.has(`${family} ${table}`);
      useless.set(family, this.#o.nft && !this.#o.variant.legacy ? onlyOurs(tables).filter(made) : []);
    }
    await Promise.all(
      this.#families(site).map(async ([family, program]) => {
        const rest = new Map([...(saved.get(family) ?? [])].filter(([table]) => useless.get(family)?.includes(table) !== true));
        const plan = planOf(rest, new Map());
        if (plan !== '') await this.#restore(this.#place(site), program, plan);
      }),
    );
    const deletions = [...useless].flatMap(([family, tables]) => tables.map((table) => deletion(family, table)));
    if (deletions.length > 0) await this.#restoreTool(this.#place(site), ['nft', '-f', '-'], deletions.join(''));
  }

  /** The sets first: the rule is refused without them. */
  async writeNode(netnsFd: number, members: readonly Member[]): Promise<void> {
    const node = { netnsFd };
    await this.#restoreTool(node, ['ipset', '-exist', 'restore'], setsMade(members));
    await this.#onNode(netnsFd, (family): Wanted => {
      const specs = ofFamily(nodeRules(), family).map((rule) => ({ id: rule.id, spec: specOf(rule, family) }));
      return new Map([['nat', { chains: new Map([[CHAIN.postrouting, specs]]), jumps: [`${BASE.postrouting} -j ${CHAIN.postrouting}`] }]]);
    });
  }

  async clearNode(netnsFd: number): Promise<void> {
    await this.#onNode(netnsFd, () => new Map());
    await this.#dropNodeTables(netnsFd);
    // one by one: what is not there is no reason to leave the other
    for (const set of setsGone()) await run({ netnsFd }, ['ipset', 'destroy', set]);
  }

  async changeMembers(netnsFd: number, add: boolean, members: readonly Member[]): Promise<void> {
    if (members.length > 0) await this.#restoreTool({ netnsFd }, ['ipset', '-exist', 'restore'], membersOf(add, members));
  }

  async #onNode(netnsFd: number, wanted: (family: Family) => Wanted): Promise<void> {
    for (const [family, program] of this.#programs()) {
      const argv = [`${program}-save`]; // asked for `nat` alone it would make one
      const saved = parseSaved(demand(argv, await run({ netnsFd }, argv)));
      const plan = planOf(saved, wanted(family), { place: '-I' });
      if (plan === '') continue;
      if (!saved.has('nat')) writeFileSync(this.#madeFile(family), '');
      await this.#restore({ netnsFd }, program, plan);
    }
  }

  /** `nat` that was made for our rule, unless others have put something into it. */
  async #dropNodeTables(netnsFd: number): Promise<void> {
    for (const [family, program] of this.#programs()) {
      if (!existsSync(this.#madeFile(family))) continue;
      const argv = [`${program}-save`]; // asked for `nat` alone it would make one
      const saved = parseSaved(demand(argv, await run({ netnsFd }, argv)));
      if (this.#o.nft && !this.#o.variant.legacy && onlyOurs(saved).includes('nat'))
        await this.#restoreTool({ netnsFd }, ['nft', '-f', '-'], deletion(family, 'nat'));
      rmSync(this.#madeFile(family), { force: true });
    }
  }

  #madeFile(family: Family): string {
    return join(this.#o.stateDir, `made-nat-v${family}`);
  }

  /** @returns false when it was refused, or there is no such step: then it takes a look first */
  async #step(site: Site, shape: Shape, stage: Stage, from: DatapathState): Promise<boolean> {
    const steps = this.#families(site).map(([family, program]) => ({ program, step: stepOf(shape, from, stage, family) }));
    if (steps.some(({ step }) => step === undefined)) return false;
    const results = await Promise.all(
      steps.map(({ program, step }) => run(this.#place(site), [`${program}-restore`, ...WAIT, '--noflush'], step)),
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

  async #restore(place: Place, program: string, plan: string): Promise<void> {
    await this.#restoreTool(place, [`${program}-restore`, ...WAIT, '--noflush'], plan);
  }

  async #restoreTool(place: Place, argv: string[], input: string): Promise<void> {
    demand(argv, await run(place, argv, input));
  }

  #found(site: Site, each: (readonly [Family, Saved])[]): FoundRules {
    if (each.length === 0) throw new CulvertError('SYSTEM', `read rules of netns ${site.netnsFd}: no iptables for it`);
    return new FoundRules(new Map(each));
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
