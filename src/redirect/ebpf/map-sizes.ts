/**
 * Map sizes from the number of pods a node may run. A full map refuses enrolment or a listener, so sizes are for the worst pod we
 * mean to serve, not the usual one; kubelet's default of 110 pods costs a few MiB.
 */

const SLACK = 64;

/** @returns max_entries by map name */
export function mapSizes(maxPods: number): Record<string, number> {
  return {
    pods: maxPods + SLACK,
    identity: maxPods + SLACK,
    // 127.0.0.1, ::1, link-local, and the addresses of several interfaces
    own: 32 * maxPods + SLACK,
    pod_by_addr: 16 * maxPods + SLACK,
    // 15001, 15006, 15008, 15053, four generations each. Tunnels of netns that are not enrolled register too.
    listeners: 4 * 4 * maxPods + SLACK,
    generation: 4 * maxPods + SLACK,
    counters: 64 * maxPods + SLACK,
    tunnels: 256,
    kubelets: 64,
    trials: 16 * maxPods + SLACK,
    // a pod's connections come from one address of the node per family, unless somebody masquerades by chance
    node_sources: 4 * maxPods + SLACK,
  };
}
