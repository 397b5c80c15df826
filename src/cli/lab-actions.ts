/** What the lab's commands do. */
import { resolve } from 'node:path';
import { CulvertError } from '../base/errors.ts';
import { findLabs, leftovers, takeDown } from '../lab/down.ts';
import { execInPod, placeOf } from '../lab/exec.ts';
import { labelInLab, parseChange } from '../lab/label.ts';
import { logFiles, readLog } from '../lab/logs.ts';
import { LabPaths } from '../lab/paths.ts';
import { requireRoot } from '../lab/root.ts';
import { statusOf, type LabStatus } from '../lab/status.ts';
import { defaultTopology, parseTopology, readTopology } from '../lab/topology.ts';
import { bringUp, type UpOptions } from '../lab/up.ts';
import type { DownFlags, LogFlags, MeshFlags, Named, StatusFlags, UpFlags } from './lab.ts';
import type { Cli } from './main.ts';
import { answer, type Table } from './output.ts';

export async function up(cli: Cli, flags: UpFlags): Promise<void> {
  const lab = new LabPaths(flags.name);
  const { text, topology } =
    flags.file === undefined
      ? { text: defaultTopology, topology: parseTopology(defaultTopology, 'default topology') }
      : readTopology(flags.file);
  const started = performance.now();
  process.once('SIGINT', () => {
    void takeDown(lab).finally(() => process.exit(130)); // half a lab is of no use to anybody
  });
  await bringUp(lab, text, topology, {
    ...meshOptions(flags),
    progress: (line) => {
      cli.io.err(`${line}\n`);
    },
  });
  cli.io.err(`lab ${lab.name} is up after ${seconds(started)}; its truth is ${lab.mesh}\n`);
}

export async function demo(cli: Cli, flags: MeshFlags): Promise<void> {
  const { runDemo } = await import('../lab/demo/main.ts');
  cli.exit.code = (await runDemo(flags.name, cli.io.out, meshOptions(flags))) ? 0 : 1;
}

/** The path is kept in the lab's directory and used from anywhere: it is made absolute. */
function meshOptions({ source, ztunnel }: MeshFlags): Pick<UpOptions, 'source' | 'tunnel'> {
  return { ...(source === undefined ? {} : { source }), ...(ztunnel === undefined ? {} : { tunnel: { ztunnel: resolve(ztunnel) } }) };
}

export async function down(cli: Cli, flags: DownFlags): Promise<void> {
  requireRoot('take lab down');
  const labs = (flags.all === true ? findLabs() : [flags.name]).map((name) => new LabPaths(name));
  if (labs.length === 0) cli.io.err('there was no lab\n');
  for (const lab of labs) {
    const started = performance.now();
    const found = await takeDown(lab);
    const left = leftovers(lab);
    if (left.length > 0) throw new CulvertError('LAB', `take lab ${lab.name} down: still there: ${left.join(', ')}`);
    cli.io.err(found ? `lab ${lab.name} is down after ${seconds(started)}\n` : `there was no lab ${lab.name}\n`);
  }
}

export async function status(cli: Cli, flags: StatusFlags): Promise<void> {
  const names = flags.name === undefined ? findLabs() : [flags.name];
  const labs = names.map((name) => statusOf(new LabPaths(name)));
  await answer(cli.io, flags.output, labs, () => statusTable(labs));
  if (flags.name !== undefined && labs[0]?.up !== true) cli.exit.code = 1;
}

function statusTable(labs: LabStatus[]): Table {
  const rows = labs.flatMap((lab) => [
    ...(lab.control === null ? [] : [[lab.name, '', 'control', alive(lab.control), '']]),
    ...lab.nodes.map(({ node, agent, ztunnel, ztunnel2 }) => [
      lab.name,
      node,
      lab.tunnel === 'builtin' ? 'agent, tunnel' : `agent, tunnel ${lab.tunnel}`,
      [agent, ztunnel, ...(ztunnel2 === undefined ? [] : [ztunnel2])].map(alive).join(', '),
      '',
    ]),
    ...lab.pods.map((pod) => [
      lab.name,
      pod.node,
      `pod ${pod.namespace}/${pod.name}`,
      pod.running ? 'running' : 'not running',
      pod.ips.join(' '),
    ]),
    ...lab.services.map((service) => [lab.name, '', `service ${service.namespace}/${service.name}`, '', service.vips.join(' ')]),
    ...(lab.up ? [] : [[lab.name, '', 'not up', `"culvert lab down --name ${lab.name}" removes ${lab.leftovers.length} leftovers`, '']]),
  ]);
  return { head: ['LAB', 'NODE', 'WHAT', 'STATE', 'ADDRESSES'], rows };
}

export async function exec(cli: Cli, pod: string, command: string[], flags: Named): Promise<void> {
  requireRoot('run a program in a pod');
  cli.exit.code = await execInPod(placeOf(existing(flags.name), pod), command[0] === '--' ? command.slice(1) : command);
}

export async function label(cli: Cli, kind: string, target: string, labels: string[], flags: Named): Promise<void> {
  if (kind !== 'namespace' && kind !== 'pod') throw new CulvertError('USAGE', `label ${kind}: it must be namespace or pod`);
  const changes = labels.map(parseChange);
  labelInLab(existing(flags.name), kind, target, changes);
  for (const { key, value } of changes) {
    if (key === 'istio.io/dataplane-mode' && value !== undefined && value !== 'ambient' && value !== 'none') {
      cli.io.err(`remark: "${value}" is no value that Istio knows for ${key}; it enrols nobody\n`);
    }
  }
  cli.io.err(`${kind} ${target} labelled\n`);
  return Promise.resolve();
}

export async function logs(cli: Cli, what: string, flags: LogFlags): Promise<void> {
  const files = logFiles(existing(flags.name), what, flags.node);
  const stop = new AbortController();
  const follow = flags.follow === true ? stop.signal : undefined;
  if (follow !== undefined) {
    process.once('SIGINT', () => {
      stop.abort();
    });
  }
  await Promise.all(files.map((file) => readLog(file, cli.io.out, follow)));
}

/** @throws CulvertError USAGE when there is no such lab */
function existing(name: string): LabPaths {
  const lab = new LabPaths(name);
  if (!findLabs().includes(name))
    throw new CulvertError('USAGE', `find lab ${name}: there is none; "culvert lab up --name ${name}" builds it`);
  return lab;
}

function alive(process: { alive: boolean }): string {
  return process.alive ? 'lives' : 'gone';
}

function seconds(since: number): string {
  return `${((performance.now() - since) / 1000).toFixed(1)} s`;
}
