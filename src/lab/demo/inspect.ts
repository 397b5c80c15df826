/** Proofs: what the commands tell, and what is not there: rules, connection tracking, leftovers. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { AgentStatus, PodStatus, VerifyResult } from '../../agent/api.ts';
import { attempt } from '../command.ts';
import { labCgroup, processesOf } from '../cgroups.ts';
import { leftovers, takeDown } from '../down.ts';
import { echoPorts } from '../echo.ts';
import { inNetns } from '../network/netns.ts';
import type { LabPaths } from '../paths.ts';
import { isAlive, startTimeOf } from '../processes.ts';
import { readState } from '../state.ts';
import { expect, type Scene } from './scene.ts';

export async function enrolled(scene: Scene): Promise<string> {
  const { code, document: nodes } = await scene.culvert<AgentStatus[]>(['status']);
  expect(code === 0 && nodes.length === 2 && nodes.every((node) => node.ready), `status: ${JSON.stringify(nodes)}`);
  const { document: pods } = await scene.culvert<PodStatus[]>(['pods']);
  const wrong = pods.filter((pod) => pod.state !== (pod.namespace === 'shop' ? 'enrolled' : 'not-enrolled'));
  expect(pods.length === 4 && wrong.length === 0, `pods: ${wrong.map((pod) => `${pod.name} is ${pod.state}: ${pod.reason}`).join('; ')}`);
  const place = (state: PodStatus['state']): string =>
    pods
      .filter((pod) => pod.state === state)
      .map((pod) => `${pod.name}@${pod.node}`)
      .sort()
      .join(', ');
  return `driver ${nodes[0]?.driver.name}; enrolled: ${place('enrolled')}; not: ${place('not-enrolled')} (${pods.find((pod) => pod.name === 'old')?.reason})`;
}

export async function mapsTell(scene: Scene): Promise<string> {
  const { code, document: maps } = await scene.culvert<
    { node: string; map: string; entries: number; rows: { pod: string | null; stale: boolean; state?: string }[] }[]
  >(['maps']);
  expect(code === 0, `maps ended with ${code}`);
  const pods = maps.filter((map) => map.map === 'pods').flatMap((map) => map.rows);
  expect(
    pods.length === 3 && pods.every((row) => row.pod?.startsWith('shop/') === true && row.state === 'active'),
    `map pods: ${JSON.stringify(pods)}`,
  );
  const listeners = maps
    .filter((map) => map.map === 'listeners')
    .reduce((sum, map) => sum + map.rows.filter((row) => !row.stale).length, 0);
  expect(listeners >= 9, `only ${listeners} living listeners of three pods`);
  return `${maps.length} maps of 2 nodes, ${maps.reduce((sum, map) => sum + map.entries, 0)} entries; 3 active pods, ${listeners} living listeners`;
}

export async function verifyAll(scene: Scene): Promise<string> {
  const { code, document: results } = await scene.culvert<VerifyResult[]>(['verify', '--all']);
  const bad = results.filter((result) => !result.ok);
  expect(code === 0 && results.length === 3 && bad.length === 0, `verify: ${JSON.stringify(bad.length > 0 ? bad : results)}`);
  return results
    .map((result) => `${result.pod} out and in`)
    .sort()
    .join(', ');
}

/** Asked while traffic flows: tables and entries appear with packets. */
export async function noRules(scene: Scene): Promise<string> {
  const flowing = Array.from({ length: 10 }, () => scene.http(scene.client, scene.ip('shop/web-2'), echoPorts.http));
  const pods = Object.entries(readState(scene.lab).pods).filter(([key]) => key.startsWith('shop/'));
  for (const [key, pod] of pods) {
    for (const command of [
      ['iptables-save'],
      ['ip6tables-save'],
      ['nft', 'list', 'ruleset'],
      ['conntrack', '-L'],
      ['conntrack', '-L', '-f', 'ipv6'],
    ]) {
      const { code, stdout, stderr } = await attempt(inNetns(pod.netns, command));
      const told = stdout.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('#'));
      expect(code === 0, `${command.join(' ')} in ${key} ended with ${code}: ${stderr.trim()}`);
      expect(told.length === 0, `${command.join(' ')} in ${key}: ${told.slice(0, 3).join(' / ')}`);
    }
  }
  await Promise.all(flowing);
  return `iptables-save, ip6tables-save, nft list ruleset and conntrack -L are empty in ${pods.map(([key]) => key).join(', ')}`;
}

/** The lab goes down, and nothing of it is left. @param devices of the host, from before the lab */
export async function nothingLeft(scene: Scene, devices: string[]): Promise<string> {
  const namespaces = namespacesOf(scene.lab);
  const processes = processesOf(labCgroup(scene.lab)).map((pid) => ({ pid, startTime: startTimeOf(pid) ?? '' }));
  const started = performance.now();
  scene.close();
  await takeDown(scene.lab);
  const ms = performance.now() - started;
  const survivors = processes.filter(isAlive).map(({ pid }) => `process ${pid}`);
  const lingering = livingNamespaces().filter((id) => namespaces.includes(id));
  const foreign = hostDevices().filter((device) => !devices.includes(device));
  const left = [...leftovers(scene.lab), ...survivors, ...lingering, ...foreign.map((device) => `device ${device}`)];
  expect(left.length === 0, `left behind: ${left.join(', ')}`);
  return `down after ${ms.toFixed(0)} ms; ${namespaces.length} namespaces and ${processes.length} processes are gone, and no device, cgroup, mount or pin is left`;
}

export function hostDevices(): string[] {
  return readdirSync('/sys/class/net');
}

/** "net:[4026532001]" of every netns that the lab holds by a mount. */
function namespacesOf(lab: LabPaths): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .flatMap((line) => {
      const [, , , root = '', point = ''] = line.split(' ');
      return point.startsWith(`${lab.dir}/`) && root.startsWith('net:[') ? [root] : [];
    });
}

/** Of every process that there is. */
function livingNamespaces(): string[] {
  return readdirSync('/proc').flatMap((pid) => {
    try {
      return /^\d+$/.test(pid) ? [readlinkSync(`/proc/${pid}/ns/net`)] : [];
    } catch {
      return []; // it ended meanwhile
    }
  });
}
