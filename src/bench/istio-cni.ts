/**
 * What istio-cni runs for one pod, command by command, with its own names, so that what it costs can be measured beside ours. As of
 * its sources of August 2026: for a pod that has nothing yet, route and rule by netlink, a save of each family to see what is there, and
 * a restore of each; to take it off, every jump and every chain of every table by a command of its own, errors ignored.
 *
 * Left out, to its advantage: the mounts in which it hides the host's lock and name service from every command. It enters the
 * namespace once per thread; here a shell inside it does the same, so that no command pays for that. The shell is there before the
 * clock starts: istio-cni needs none.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { CulvertError } from '../base/errors.ts';
import { specOf } from '../redirect/iptables/render.ts';
import { podRules, type Family, type Rule, type Table } from '../redirect/netfilter/rules.ts';
import { inspect, put, takeBack } from '../redirect/netfilter/settings.ts';
import { Netns } from '../sys/netns.ts';

export interface IstioCniOptions {
  ipv6: boolean;
  dns: boolean;
}

const PROGRAM: Readonly<Record<Family, string>> = { 4: 'iptables', 6: 'ip6tables' };
const CHAIN = { prerouting: 'ISTIO_PRERT', output: 'ISTIO_OUTPUT' } as const;
const BASE = { prerouting: 'PREROUTING', output: 'OUTPUT' } as const;
const HOOKS = ['prerouting', 'output'] as const;

/**
 * @returns milliseconds
 * @throws CulvertError SYSTEM with the words of the one that failed
 */
export async function applyAsIstioCni(netnsPath: string, { ipv6, dns }: IstioCniOptions): Promise<number> {
  const families: Family[] = ipv6 ? [4, 6] : [4];
  using netns = Netns.open(netnsPath);
  const saves = (['iptables', 'ip6tables'] as const).map((program) => `${program}-save > /dev/null`);
  const restores = families.map(
    (family) => `${PROGRAM[family]}-restore --noflush -v > /dev/null <<'RULES'\n${restoreInput(family, dns)}RULES`,
  );
  const before = performance.now();
  put(
    netns.fd,
    inspect(netns.fd).missing.filter((op) => !('family' in op) || families.includes(op.family)),
  );
  const settings = performance.now() - before;
  return settings + (await timedInShell(netnsPath, [...saves, ...restores]));
}

/** @returns milliseconds @throws CulvertError SYSTEM */
export async function removeAsIstioCni(netnsPath: string, { ipv6 }: Pick<IstioCniOptions, 'ipv6'>): Promise<number> {
  const families: Family[] = ipv6 ? [4, 6] : [4];
  const commands = families.flatMap((family) => deletions().map((words) => `${PROGRAM[family]} ${words} > /dev/null 2>&1 || :`));
  const ran = await timedInShell(netnsPath, commands);
  using netns = Netns.open(netnsPath);
  const before = performance.now();
  takeBack(netns.fd);
  return ran + performance.now() - before;
}

/** One input of iptables-restore: tables by name, chains first. */
export function restoreInput(family: Family, dns: boolean): string {
  const rules = podRules({ dns, ingressMode: false, virtualInterfaces: [] }).filter(
    (rule): rule is Rule & { chain: keyof typeof CHAIN } =>
      (rule.chain === 'prerouting' || rule.chain === 'output') && (rule.family === undefined || rule.family === family),
  );
  const tables: Table[] = dns ? ['mangle', 'nat', 'raw'] : ['mangle', 'nat'];
  return tables
    .map((table) => {
      const chains = HOOKS.map((hook) => `-N ${CHAIN[hook]}\n`).join('');
      const jumps = HOOKS.map((hook) => `-A ${BASE[hook]} -j ${CHAIN[hook]}\n`).join('');
      const own = rules.filter((rule) => rule.table === table).map((rule) => `-A ${CHAIN[rule.chain]} ${specOf(rule, family)}\n`);
      return `* ${table}\n${chains}${jumps}${own.join('')}COMMIT\n`;
    })
    .join('');
}

/** Raw's too, whether DNS was captured or not: it does not remember. */
function deletions(): string[] {
  const tables: Table[] = ['mangle', 'nat', 'raw'];
  const each = (flag: string): string[] => tables.flatMap((table) => HOOKS.map((hook) => `-t ${table} ${flag} ${CHAIN[hook]}`));
  return [
    ...tables.flatMap((table) => HOOKS.map((hook) => `-t ${table} -D ${BASE[hook]} -j ${CHAIN[hook]}`)),
    ...each('-F'),
    ...each('-X'),
  ];
}

/** @returns milliseconds from when the shell is in the namespace until the last command ended */
function timedInShell(netnsPath: string, commands: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn('nsenter', [`--net=${netnsPath}`, '--', 'sh', '-s'], { stdio: 'pipe' });
    let began: number | undefined;
    let took: number | undefined;
    let stderr = '';
    createInterface({ input: child.stdout }).on('line', () => {
      if (began !== undefined) took ??= performance.now() - began;
      else {
        began = performance.now();
        child.stdin.end(`${commands.join('\n')}\necho\n`);
      }
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.on('error', (error) => {
      reject(new CulvertError('SYSTEM', 'start nsenter', error));
    });
    child.on('close', (code) => {
      if (code === 0 && took !== undefined) resolve(took);
      else reject(new CulvertError('SYSTEM', `run istio-cni's commands in ${netnsPath}: exit code ${code ?? 'none'}: ${stderr.trim()}`));
    });
    child.stdin.on('error', () => undefined); // ended early: its exit code says why
    child.stdin.write('set -e\necho\n');
  });
}
