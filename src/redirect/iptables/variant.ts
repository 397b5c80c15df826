/**
 * Which iptables a node speaks, chosen once and used in all its pods, as istio-cni chooses: legacy where the node has rules of it, else
 * nft, else whatever `iptables` is. A program that cannot put a rule into `nat` here is none. Unlike istio-cni, which counts lines, an
 * empty table is no rule: with legacy, whoever looks for rules leaves one in the netns for good, and the next choice would be another.
 */
import type { Logger } from '../../base/log.ts';
import type { Family } from '../netfilter/rules.ts';
import { lastWords, run, type Place } from '../netfilter/command.ts';

export interface Variant {
  /** "iptables-nft"; the others are called after it */
  programs: Partial<Record<Family, string>>;
  legacy: boolean;
  /** "iptables-nft 1.8.9" */
  version: string;
}

export const PACKAGE = 'iptables';
/** Matches nothing: 255 is nobody's protocol. */
const TRIAL = ['-t', 'nat', '-A', 'INPUT', '-p', '255', '-j', 'RETURN'];
/** Seconds to wait for another's lock. */
export const WAIT = ['-w', '10'];

interface Candidate {
  name: string;
  legacy: boolean;
  version: string;
  hasRules: boolean;
}

/** @returns the choice, or why there is none */
export async function chooseVariant(node: Place, log?: Logger): Promise<Variant | string[]> {
  const [four, six] = await Promise.all([choose(node, 'iptables'), choose(node, 'ip6tables')]);
  if (Array.isArray(four)) return four;
  if (Array.isArray(six)) log?.warn({ reasons: six }, 'ip6tables cannot be used: pods with IPv6 are not served in it');
  return {
    programs: { 4: four.name, ...(Array.isArray(six) ? {} : { 6: six.name }) },
    legacy: four.legacy,
    version: `${four.name} ${four.version}`,
  };
}

async function choose(node: Place, name: string): Promise<Candidate | string[]> {
  const legacy = await look(node, `${name}-legacy`);
  if (typeof legacy !== 'string' && legacy.hasRules && (await refusal(node, legacy)) === undefined) return legacy;
  const why: string[] = [];
  for (const candidate of [await look(node, `${name}-nft`), await look(node, name), legacy]) {
    const refused = typeof candidate === 'string' ? candidate : await refusal(node, candidate);
    if (refused === undefined && typeof candidate !== 'string') return candidate;
    why.push(refused ?? '');
  }
  return why.slice(1, 2);
}

/** @returns a sentence when it is not there */
async function look(node: Place, name: string): Promise<Candidate | string> {
  const save = await run(node, [`${name}-save`]);
  if (save.code === 127) return `${name} is not installed (package ${PACKAGE})`;
  if (save.code !== 0) return `${name}-save: ${lastWords(save)}`;
  const said = await run(node, [name, '--version']);
  return {
    name,
    legacy: !said.stdout.includes('nf_tables'),
    version: /v(\d[\d.]*)/.exec(said.stdout)?.[1] ?? 'of unknown version',
    hasRules: /^-A |^:\S+ -/m.test(save.stdout),
  };
}

/** Tried in a netns that goes with the process, so that the node keeps nothing of it. */
async function refusal(node: Place, { name }: Candidate): Promise<string | undefined> {
  const tried = await run(node, ['unshare', '--net', '--', name, ...WAIT, ...TRIAL]);
  return tried.code === 0 ? undefined : `${name}: ${lastWords(tried)}`;
}
