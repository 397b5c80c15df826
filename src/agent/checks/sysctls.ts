/** Sysctls of pods must be writable: a container's own /proc/sys is not, so the host's is mounted at procRoot. */
import { systemCause } from '../../base/errors.ts';
import { native, type Native } from '../../sys/native.ts';
import { Fault } from './check.ts';

/** one of those that every enrolled pod gets */
const PATH = 'net/ipv4/tcp_fwmark_accept';

/** Writes what is there already, in our own namespace. */
export function lookAtSysctls(procRoot: string, { netnsRun }: Pick<Native, 'netnsRun'> = native): string {
  const [read] = netnsRun(-1, [{ op: 'sysctl-read', path: PATH }]);
  if (read?.ok !== true)
    throw new Fault(`${procRoot}/sys/${PATH} cannot be read: ${read?.message ?? ''}`, "mount the host's /proc at procRoot");
  const [write] = netnsRun(-1, [{ op: 'sysctl', path: PATH, value: String(read.value) }]);
  if (write?.ok === true) return `${procRoot}/sys/net can be written to`;
  const remedy =
    systemCause(Object.assign(new Error(), write)).systemCode === 'EROFS'
      ? "mount the host's /proc writable (hostPath /proc, without readOnly) and name it in procRoot"
      : 'add capability NET_ADMIN; with AppArmor set the profile to Unconfined';
  throw new Fault(`${procRoot}/sys/${PATH} cannot be written to: ${write?.message ?? ''}`, remedy);
}
