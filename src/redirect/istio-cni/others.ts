/** The network namespaces of a node's processes, one path for each. */
import { namespaceId, processes } from '../../sys/procfs.ts';

/** @throws CulvertError SYSTEM: EACCES without ptrace access */
export function* netnsOfProcesses(proc: string): Generator<string> {
  const seen = new Set<string>();
  for (const pid of processes(proc)) {
    const path = `${proc}/${pid}/ns/net`;
    const id = namespaceId(path);
    if (id === undefined || seen.has(id)) continue;
    seen.add(id);
    yield path;
  }
}
