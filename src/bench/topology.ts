/** The lab of a benchmark: one pod pair per scenario, all alike but for what redirects them. */
import { stringify } from 'yaml';
import { selfCommand } from '../lab/self.ts';
import { parseTopology, type Topology } from '../lab/topology.ts';
import { isEnrolled } from './options.ts';
import type { Scenario } from './report.ts';

/** enrolled, and not */
const MESH = 'mesh';
const PLAIN = 'plain';
const DRIVER_ANNOTATION = 'culvert.dev/redirect-driver';

export interface PodName {
  namespace: string;
  name: string;
}

export function podOf(role: 'client' | 'server', scenario: Scenario): PodName {
  return { namespace: namespaceOf(scenario), name: `${role}-${scenario}` };
}

/** Declared and not started: for the time that CNI ADD takes. */
export function extraPod(scenario: Scenario): PodName {
  return { namespace: namespaceOf(scenario), name: `add-${scenario}` };
}

function namespaceOf(scenario: Scenario): string {
  return isEnrolled(scenario) ? MESH : PLAIN;
}

/**
 * @param countsOf path of the socket where a pod's server tells its counts
 * @returns the lab's truth, and what of it is to be started at once
 */
export function benchTopology(
  scenarios: readonly Scenario[],
  nodes: 1 | 2,
  countsOf: (pod: PodName) => string,
): { text: string; topology: Topology } {
  const names = nodes === 1 ? ['node1'] : ['node1', 'node2'];
  const annotationsOf = (scenario: Scenario): Record<string, string> => (isEnrolled(scenario) ? { [DRIVER_ANNOTATION]: scenario } : {});
  const pods = scenarios.flatMap((scenario) =>
    (['client', 'server'] as const).map((role) => {
      const pod = podOf(role, scenario);
      return {
        ...pod,
        node: role === 'client' ? 'node1' : (names.at(-1) ?? ''),
        serviceAccount: pod.name,
        annotations: annotationsOf(scenario),
        command: [...selfCommand(), 'bench-serve', '--counts', countsOf(pod)],
      };
    }),
  );
  const extra = scenarios.map((scenario) => ({ ...extraPod(scenario), node: 'node1', annotations: annotationsOf(scenario) }));
  const text = stringify({
    nodes: names,
    namespaces: { [MESH]: { labels: { 'istio.io/dataplane-mode': 'ambient' } }, [PLAIN]: {} },
    pods: [...pods, ...extra],
  });
  const topology = parseTopology(text, 'topology of the benchmark');
  return { text, topology: { ...topology, pods: topology.pods.slice(0, pods.length) } };
}
