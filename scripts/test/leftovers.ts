/**
 * After the rings: what is on the machine now and was not before? Namespaces, cgroups, bpffs mounts, lab directories, devices,
 * processes and programs of the tests must all be gone. Everything of theirs is called cvt-…; the lab that somebody runs beside
 * the tests is a stranger's.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import type { Outcome } from './outcome.ts';

/** The kernel frees namespaces, programs and cgroups a moment after their last user is gone. */
const PATIENCE_MS = 30_000;
/** in the path of a cgroup */
const STRANGERS_LAB = /\/culvert-lab-(?!cvt-)/;
/** Names of what tests make. */
const OURS = /^(culvert-lab-)?cvt-/;

export function snapshot(): Set<string> {
  return new Set([...directories(), ...mounts(), ...devices(), ...processes(), ...programs()]);
}

export async function leftovers(before: ReadonlySet<string>): Promise<Outcome> {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    const left = [...snapshot()].filter((item) => !before.has(item));
    if (left.length === 0) return { passed: 1, failures: [] };
    if (performance.now() > deadline)
      return { passed: 0, failures: [{ title: 'something of the tests is left', detail: left.join('\n') }] };
    await setTimeout(100);
  }
}

function list(path: string): string[] {
  return existsSync(path) ? readdirSync(path) : [];
}

function mountPoints(type: string): string[] {
  const lines = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  return lines.map((line) => line.split(' ')).flatMap(([, point, kind]) => (kind === type && point !== undefined ? [point] : []));
}

function ours(parent: string): string[] {
  return list(parent).flatMap((name) => (OURS.test(name) ? [`${parent}/${name}`] : []));
}

function directories(): string[] {
  return [
    ...ours('/run/netns').map((path) => `network namespace ${path}`),
    ...['cgroup', 'cgroup2']
      .flatMap(mountPoints)
      .flatMap(ours)
      .map((path) => `cgroup ${path}`),
    ...['/run', '/run/culvert-lab', tmpdir()].flatMap(ours).map((path) => `directory ${path}`),
  ];
}

function mounts(): string[] {
  return mountPoints('bpf').flatMap((point) => (/\/cvt-/.test(point) ? [`bpffs mounted at ${point}`] : []));
}

function devices(): string[] {
  return list('/sys/class/net').flatMap((name) => (/^cvt/.test(name) ? [`network device ${name}`] : []));
}

/** Processes of this tree's executables or of its Node, except ourselves, whoever started us, and other labs. */
function processes(): string[] {
  const roots = ['build/', 'node_modules/node/bin/'].map((path) => `${resolve(path)}/`);
  const spared = ancestors();
  return list('/proc').flatMap((pid) => {
    if (!/^\d+$/.test(pid) || spared.has(pid)) return [];
    try {
      const executable = readlinkSync(`/proc/${pid}/exe`);
      if (!roots.some((root) => executable.startsWith(root)) || STRANGERS_LAB.test(readFileSync(`/proc/${pid}/cgroup`, 'utf8'))) return [];
      return [`process ${pid}: ${readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()}`];
    } catch {
      return []; // gone meanwhile, or a kernel thread
    }
  });
}

function ancestors(): Set<string> {
  const found = new Set<string>();
  let pid = String(process.pid);
  while (pid !== '0') {
    found.add(pid);
    // The name, in parentheses, may hold anything: the fields after the last ')' are state and parent.
    const parent = readFileSync(`/proc/${pid}/stat`, 'utf8').split(')').at(-1)?.trim().split(' ')[1];
    if (parent === undefined) break;
    pid = parent;
  }
  return found;
}

/** Programs in the kernel that carry a name of our object; whose they are cannot be told while another lab runs. */
function programs(): string[] {
  if (process.getuid?.() !== 0) return [];
  if (mountPoints('cgroup2').some((root) => list(root).some((name) => STRANGERS_LAB.test(`/${name}`)))) return [];
  const ours = new Set(list('build/bpf/parts').flatMap((file) => (file.endsWith('.o') ? functionsOf(`build/bpf/parts/${file}`) : [])));
  if (ours.size === 0) return [];
  const loaded = JSON.parse(execFileSync('bpftool', ['-j', 'prog', 'list'], { encoding: 'utf8', maxBuffer: 1 << 26 })) as {
    id: number;
    name?: string;
  }[];
  return loaded.flatMap(({ id, name }) => (name !== undefined && ours.has(name) ? [`BPF program ${String(id)} ${name}`] : []));
}

/** Names of global functions in an object file; the kernel keeps the first 15 characters. */
function functionsOf(object: string): string[] {
  const symbols = execFileSync('nm', ['--defined-only', '--extern-only', '--format=posix', object], { encoding: 'utf8' });
  return symbols.split('\n').flatMap((line) => {
    const [name, type] = line.split(' ');
    return name !== undefined && type === 'T' ? [name.slice(0, 15)] : [];
  });
}
