/** The network namespaces of a node's processes, one path for each. */
import { isSystem } from '../../base/errors.ts';
import { missingCapabilities } from '../../sys/kernel.ts';
import { namespaceId, processes } from '../../sys/procfs.ts';
import { attempt } from '../../sys/system.ts';

/**
 * With ptrace access, what still cannot be looked at belongs to a user namespace above ours, where no pod is.
 * @throws CulvertError SYSTEM: EACCES without ptrace access
 */
export function* netnsOfProcesses(proc: string): Generator<string> {
  const traces = missingCapabilities(['SYS_PTRACE']).length === 0;
  const seen = new Set<string>();
  for (const pid of processes(proc)) {
    const path = `${proc}/${pid}/ns/net`;
    try {
      const id = attempt(`read network namespace of process ${pid}`, () => namespaceId(path));
      if (id === undefined || seen.has(id)) continue;
      seen.add(id);
    } catch (error) {
      if (!traces || !isSystem(error, 'EACCES')) throw error;
      continue;
    }
    yield path;
  }
}
