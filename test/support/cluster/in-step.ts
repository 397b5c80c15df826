/** Whether what the mesh keeps of pods on a node is what lives there: annotations, the agent's list, maps and pins. */
import type { PodStatus } from '../../../src/agent/api.ts';
import { REDIRECTION_ANNOTATION } from '../../../src/enrol/policy.ts';
import { until } from '../kubernetes/until.ts';
import type { Cluster } from './cluster.ts';
import { pinnedPods } from './inventory.ts';
import type { Mesh } from './mesh.ts';
import type { ClusterNode } from './node.ts';
import { podsOf, statusOf } from './pods.ts';

interface NodeMap {
  map: string;
  rows: { cookie?: string; pod: string | null }[];
}

interface Place {
  cluster: Cluster;
  mesh: Mesh;
  node: ClusterNode;
  /** all running pods of these, and no others, are to be enrolled */
  namespaces: readonly string[];
}

const same = (a: readonly string[], b: readonly string[]): boolean => JSON.stringify(a) === JSON.stringify(b);

/** Nothing wrong: empty. */
async function faults({ cluster, mesh, node, namespaces }: Place): Promise<{ count: number; found: Record<string, unknown> }> {
  const all = (await Promise.all(namespaces.map((namespace) => podsOf(cluster, namespace)))).flat();
  const living = all.filter((pod) => pod.metadata.deletionTimestamp === undefined && statusOf(pod).phase === 'Running');
  const wanted = living.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`).toSorted();
  const known = ((await mesh.culvert(node.name, 'pods')) as PodStatus[]).filter(({ state }) => state === 'enrolled');
  const enrolled = known.map(({ namespace, name }) => `${namespace}/${name}`).toSorted();
  const maps = (await mesh.culvert(node.name, 'maps')) as NodeMap[];

  const hex = (cookie: string): string => BigInt(cookie).toString(16);
  const cookies = known.map(({ netnsCookie }) => hex(netnsCookie)).toSorted();
  const inMap = maps.find(({ map }) => map === 'pods')!.rows.map(({ cookie }) => hex(cookie!));
  const strangers = maps.flatMap(({ map, rows }) =>
    rows.filter(({ cookie }) => cookie !== undefined && !cookies.includes(hex(cookie))).map((row) => ({ map, ...row })),
  );
  const silent = living.filter(({ metadata }) => metadata.annotations?.[REDIRECTION_ANNOTATION] !== 'enabled');
  const pins = await pinnedPods(node);
  const found = {
    ...(same(wanted, enrolled) ? {} : { wanted, enrolled }),
    ...(same(cookies, inMap.toSorted()) ? {} : { cookies, inMap }),
    ...(same(cookies, pins) ? {} : { cookies, pins }),
    ...(strangers.length === 0 ? {} : { strangers }),
    ...(silent.length === 0 ? {} : { notAnnotated: silent.map(({ metadata }) => metadata.name) }),
  };
  return { count: enrolled.length, found };
}

/** Waits until it is so. @returns how many are enrolled @throws naming what is not in step */
export async function inStep(place: Place, ms = 60_000): Promise<number> {
  let last: Awaited<ReturnType<typeof faults>> = { count: 0, found: {} };
  try {
    await until('maps and pins to be in step with the pods', async () => Object.keys((last = await faults(place)).found).length === 0, ms);
  } catch (error) {
    throw new Error(`${(error as Error).message}: ${JSON.stringify(last.found)}`, { cause: error });
  }
  return last.count;
}
