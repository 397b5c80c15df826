/**
 * A skipped test must justify itself: with `ctx.skip('needs FEATURE: …')`, and only where this machine lacks the feature. Everything
 * else that is skipped counts as failed.
 */
import { existsSync, readFileSync } from 'node:fs';

const NO_IO_URING = '/proc/sys/kernel/io_uring_disabled'; // since Linux 6.6

/** Containers' profiles refuse io_uring. */
const filtered = (): boolean => /^Seccomp:\t2$/m.test(readFileSync('/proc/self/status', 'utf8'));

/** feature → is it here? */
const FEATURES: Readonly<Record<string, () => boolean>> = {
  root: () => process.getuid?.() === 0,
  ipv6: () => existsSync('/proc/net/if_inet6'),
  mptcp: () => existsSync('/proc/sys/net/mptcp'),
  'containerd-1.6': () => existsSync('/etc/debian_version') && readFileSync('/etc/debian_version', 'utf8').startsWith('12.'),
  'io-uring': () => !filtered() && (!existsSync(NO_IO_URING) || readFileSync(NO_IO_URING, 'utf8').trim() === '0'),
  // Every kernel that make test accepts at all has these.
  bpf: () => existsSync('/proc/sys/kernel/unprivileged_bpf_disabled'),
  cgroup2: () => /\bcgroup2$/m.test(readFileSync('/proc/filesystems', 'utf8')),
};

export function judgeSkip(note: string | undefined): { allowed: boolean; reason: string } {
  const feature = /^needs ([a-z0-9-]+)/.exec(note ?? '')?.[1];
  if (feature === undefined)
    return { allowed: false, reason: `skipped without a reason of the form 'needs FEATURE' (note: ${note ?? 'none'})` };
  const probe = FEATURES[feature];
  if (probe === undefined) return { allowed: false, reason: `skipped for '${feature}', which scripts/test/skips.ts cannot probe` };
  if (probe()) return { allowed: false, reason: `skipped for want of '${feature}', which this machine has` };
  return { allowed: true, reason: note ?? '' };
}
