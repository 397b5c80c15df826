/**
 * Whether an agent that stops takes the plugin off its node. Without the plugin, new pods start outside the mesh: so it stays when only
 * the agent is replaced, and goes when nobody comes after.
 */

/** What is known of the DaemonSet that runs the agent. */
export type DaemonSetState =
  /** it goes on running pods on this node: an upgrade, or the node restarts */
  | 'present'
  /** it is there, but no longer for this node */
  | 'elsewhere'
  | 'deleting'
  | 'gone'
  /** our account is no longer let in, or may no longer ask: it, or its role (which istio-cni takes for silence), went with the release */
  | 'unauthorized'
  /** the API server did not tell */
  | 'unknown';

export interface ShutdownSituation {
  daemonSet: DaemonSetState;
  /** own-config mode: the file is made to outlive the agent, so doubt speaks for leaving it */
  ownConfig: boolean;
  /** false: the operator wants everything removed whenever an agent stops */
  safeUpgrade: boolean;
}

/** istio-cni's table, including its two answers when the API server is silent. */
export function shutdownDecision({ daemonSet, ownConfig, safeUpgrade }: ShutdownSituation): 'leave' | 'clean up' {
  if (!safeUpgrade) return 'clean up';
  switch (daemonSet) {
    case 'present':
      return 'leave';
    case 'unknown':
      return ownConfig ? 'leave' : 'clean up';
    case 'elsewhere':
    case 'deleting':
    case 'gone':
    case 'unauthorized':
      return 'clean up';
  }
}
