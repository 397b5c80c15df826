/** From any state of iptables to the wanted one: a small iptables in memory runs what is planned. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { differences, onlyOurs, planOf, rendered, stageIn, stepOf, wantedOf } from '../../../../src/redirect/iptables/plan.ts';
import { canonical, parseSaved, type Saved } from '../../../../src/redirect/iptables/saved.ts';
import type { Shape, Stage } from '../../../../src/redirect/netfilter/rules.ts';

const SHAPE: Shape = { dns: true, ingressMode: false, virtualInterfaces: [] };
const STAGES: Stage[] = ['prepared', 'active', 'draining'];

/** iptables-restore --noflush, as far as our plans use it. @throws Error as it would refuse */
function restore(before: Saved, input: string): Saved {
  const saved: Saved = structuredClone(before);
  let table = '';
  const chains = (): Map<string, { spec: string; packets: number }[]> => {
    const known = saved.get(table) ?? { chains: new Map(['PREROUTING', 'INPUT', 'OUTPUT'].map((name) => [name, []])), guarded: false };
    saved.set(table, known);
    return known.chains;
  };
  const chain = (name: string): { spec: string; packets: number }[] => {
    const found = chains().get(name);
    if (found === undefined) throw new Error(`no chain ${name} in ${table}`);
    return found;
  };
  for (const line of input.split('\n').filter((each) => each !== '' && each !== 'COMMIT')) {
    const [verb = '', name = '', ...rest] = line.split(' ');
    const spec = rest.join(' ');
    if (line.startsWith('*')) table = line.slice(1);
    else if (line.startsWith(':')) chains().set(verb.slice(1), []);
    else if (verb === '-A') chain(name).push({ spec, packets: 0 });
    else if (verb === '-I') chain(name).unshift({ spec, packets: 0 });
    else if (verb === '-F') chain(name).length = 0;
    else if (verb === '-X') {
      const used = [...chains().values()].flat().some((rule) => rule.spec.endsWith(`-j ${name}`));
      if (used || chain(name).length > 0) throw new Error(`chain ${name} is in use`);
      chains().delete(name);
    } else if (verb === '-D') {
      const at = chain(name).findIndex((rule) => canonical(rule.spec) === canonical(spec));
      if (at < 0) throw new Error(`no rule ${line}`);
      chain(name).splice(at, 1);
    } else throw new Error(`what is ${line}?`);
  }
  return saved;
}

const at = (shape: Shape, stage: Stage): Saved => restore(new Map(), rendered(shape, stage, 4));
const ours = (saved: Saved): string => JSON.stringify([...saved].map(([name, { chains }]) => [name, [...chains]]));

describe('a plan', () => {
  it.each(STAGES)('is empty where the rules are %s already, and leads there from nothing', (stage) => {
    const saved = at(SHAPE, stage);
    expect(stageIn(saved)).toBe(stage);
    expect(differences(saved, wantedOf(SHAPE, stage, 4), 4)).toEqual([]);
    expect(planOf(saved, wantedOf(SHAPE, stage, 4))).toBe('');
  });

  it('leads from any disorder to any stage, guarded or not, and to nothing', () => {
    const shapes = fc.record({ dns: fc.boolean(), ingressMode: fc.boolean(), virtualInterfaces: fc.constantFrom([], ['virt0']) });
    fc.assert(
      fc.property(
        shapes,
        shapes,
        fc.constantFrom(...STAGES),
        fc.constantFrom(...STAGES),
        fc.array(fc.nat(), { maxLength: 4 }),
        fc.boolean(),
        (shape, other, stage, was, tampering, guarded) => {
          const saved = at(other, was);
          tamper(saved, tampering);
          const after = restore(saved, planOf(saved, wantedOf(shape, stage, 4), { guarded }));
          expect(differences(after, wantedOf(shape, stage, 4), 4)).toEqual([]);
          expect(after.get('filter')?.chains.get('OUTPUT') ?? []).toEqual([]);
          const gone = restore(after, planOf(after, new Map()));
          expect(ours(gone)).not.toContain('CULVERT');
        },
      ),
    );
  });

  it("leaves others' rules as they are", () => {
    const theirs =
      '*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:APP - [0:0]\n-A OUTPUT -p tcp -m tcp --dport 1 -j APP\n-A APP -j RETURN\nCOMMIT\n';
    const before = parseSaved(theirs);
    const active = restore(before, planOf(before, wantedOf(SHAPE, 'active', 4)));
    expect(onlyOurs(active)).not.toContain('nat');
    expect(onlyOurs(active)).toContain('mangle');
    const after = restore(active, planOf(active, new Map()));
    expect(after.get('nat')).toEqual(before.get('nat'));
  });

  it('puts the guard first and takes it off last', () => {
    const saved = at(SHAPE, 'active');
    saved.get('nat')?.chains.set('OUTPUT', []);
    const plan = planOf(saved, wantedOf(SHAPE, 'active', 4), { guarded: true });
    const tables = plan.split('\n').filter((line) => line.startsWith('*'));
    expect(tables).toEqual(['*filter', '*nat', '*filter']);
    expect(plan).toContain('--ctstate NEW -j DROP');
    // interrupted after its first commit: the next plan removes it
    const stuck = restore(saved, plan.split('COMMIT\n')[0] ?? '');
    expect(ours(restore(stuck, planOf(stuck, wantedOf(SHAPE, 'active', 4))))).not.toContain('GUARD');
  });

  it('takes single steps without looking', () => {
    const steps: [Stage, Stage][] = [
      ['prepared', 'active'],
      ['active', 'draining'],
      ['draining', 'active'],
    ];
    for (const [from, to] of steps)
      expect(differences(restore(at(SHAPE, from), stepOf(SHAPE, from, to, 4) ?? ''), wantedOf(SHAPE, to, 4), 4)).toEqual([]);
    expect(stepOf(SHAPE, 'none', 'active', 4)).toBeUndefined();
  });
});

describe('differences', () => {
  it('name the rule that is missing, changed, foreign, twice or out of order', () => {
    const said = (change: (rules: { spec: string; packets: number }[]) => void): string => {
      const saved = at(SHAPE, 'active');
      change(saved.get('nat')?.chains.get('CULVERT_OUTPUT') ?? []);
      return differences(saved, wantedOf(SHAPE, 'active', 4), 4).join('; ');
    };
    expect(said((rules) => rules.pop())).toContain('rule outbound-v4 is missing or changed');
    expect(said((rules) => (rules[0] = { spec: '-j RETURN', packets: 0 }))).toMatch(
      /probe-out-v4 is missing.*a rule is not ours \(-j RETURN\)/,
    );
    expect(said((rules) => rules.push(rules[0] ?? { spec: '', packets: 0 }))).toContain('there twice');
    expect(said((rules) => rules.reverse())).toContain('another order');
    expect(said(() => undefined)).toBe('');
  });
});

describe('a saved rule', () => {
  it('means the same in any order and spelling', () => {
    const [a, b] = ['-d 169.254.7.127/32 -p tcp -m tcp -j ACCEPT', '-p tcp -d 169.254.7.127 -j ACCEPT'];
    expect(canonical(a)).toBe(canonical(b));
    expect(canonical('! -o lo -p udp -m udp --dport 53 -j REDIRECT --to-port 15053')).toBe(
      canonical('-p udp ! -o lo --dport 53 -j REDIRECT --to-ports 15053'),
    );
    expect(canonical('-p tcp ! --dport 15008 -j X')).not.toBe(canonical('-p tcp --dport 15008 -j X'));
    expect(canonical('-m mark ! --mark 0x539/0xfff')).not.toBe(canonical('-m mark --mark 0x539/0xfff'));
  });

  it('carries its counter', () => {
    const saved = parseSaved('*nat\n:X - [0:0]\n[7:420] -A X -p tcp -m tcp --dport 15008\n-A X\nCOMMIT\n');
    expect(saved.get('nat')?.chains.get('X')).toEqual([
      { spec: '-p tcp -m tcp --dport 15008', packets: 7 },
      { spec: '', packets: 0 },
    ]);
  });
});

/** Takes rules and jumps away, adds foreign ones, by numbers. */
function tamper(saved: Saved, numbers: readonly number[]): void {
  for (const n of numbers) {
    const chains = [...saved.values()].flatMap(({ chains: all }) => [...all.values()]);
    const chain = chains[n % chains.length];
    if (chain === undefined) continue;
    if (n % 3 === 0) chain.splice(0, 1);
    else if (n % 3 === 1) chain.length = 0;
    else if (chain[0] !== undefined) chain.push(chain[0]);
  }
}
