/** Network namespaces kept alive by a bind mount in the lab's directory. /run/netns, which is the host's, stays untouched. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { attempt, must } from '../command.ts';

/** A new netns at `path`, loopback up, without duplicate address detection (it would make every IPv6 address wait a second). */
export async function createNetns(path: string): Promise<void> {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, '');
  await must([
    'unshare',
    `--net=${path}`,
    'sh',
    '-ec',
    'echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad; echo 0 > /proc/sys/net/ipv6/conf/all/accept_dad; ip link set lo up',
  ]);
}

/**
 * Lets go of the namespace; it dies with its last user. Lazily, as ip-netns does it: a tunnel that opened it through this mount
 * would keep the mount busy. Nothing there is success.
 */
export async function removeNetns(path: string): Promise<void> {
  await attempt(['umount', '--lazy', path]);
  rmSync(path, { force: true });
}

/** argv that runs a program inside the netns; nsenter execs, so the pid stays the same */
export function inNetns(path: string, argv: string[]): string[] {
  return ['nsenter', `--net=${path}`, '--', ...argv];
}

/** Several `ip` commands in one process. */
export async function ipBatch(path: string, commands: string[]): Promise<void> {
  await must(inNetns(path, ['ip', '-batch', '-']), { input: `${commands.join('\n')}\n` });
}
