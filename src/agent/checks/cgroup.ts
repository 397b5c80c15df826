/** Programs for every pod are attached to the root of cgroup v2: the node's, not the part that a container sees of it. */
import { isCulvert } from '../../base/errors.ts';
import { cgroup2Mount } from '../../sys/cgroup.ts';
import { Fault } from './check.ts';

/** @param configured directory that the operator chose: he knows which pods are below it */
export function lookAtCgroup(configured: string | undefined, find: () => string = cgroup2Mount): string {
  if (configured !== undefined) return `${configured}, as configured`;
  try {
    return find();
  } catch (error) {
    if (!isCulvert(error, 'CGROUP_ROOT')) throw error;
    throw new Fault(error.message, "mount the host's /sys/fs/cgroup into the pod, at any path (hostPath); on the host mount cgroup v2");
  }
}
