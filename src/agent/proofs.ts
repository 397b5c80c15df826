/** What the agent must find on its host before it puts anything there; each refusal names its remedy. */
import { cgroup2Mount } from '../sys/cgroup.ts';
import type { AgentConfig } from './config.ts';

export interface ProvenHost {
  /** cgroup v2 directory below which pods and tunnels run */
  cgroupRoot: string;
}

export function proveHost(config: AgentConfig): ProvenHost {
  return { cgroupRoot: config.cgroupRoot ?? cgroup2Mount() };
}
