/** Finds a network namespace by the kernel's number of it, where no path to it is known any more. */
import { describe, isCulvert, isSystem } from '../base/errors.ts';
import { Netns } from './netns.ts';
import { namespaceId, processes } from './procfs.ts';

/**
 * Looks through the namespaces that processes are in. One without processes and without a known path cannot be found.
 * @param proc procfs of the node
 */
export function openByCookie(cookie: bigint, proc = '/proc'): Netns | undefined {
  const seen = new Set<string>();
  for (const pid of processes(proc)) {
    const path = `${proc}/${pid}/ns/net`;
    try {
      const id = namespaceId(path);
      if (id === undefined || seen.has(id)) continue;
      seen.add(id);
      const netns = Netns.open(path);
      if (netns.cookie === cookie) return netns;
      netns.close();
    } catch (error) {
      // ended meanwhile, or not ours to look into: then it is no pod's
      if (!isCulvert(error, 'NETNS_GONE') && !isSystem(error, 'EACCES') && !isSystem(error, 'EPERM'))
        throw new Error(`look for netns ${cookie}: ${describe(error)}`, { cause: error });
    }
  }
  return undefined;
}
