/**
 * A netns leaves. The hook first, by BPF_LINK_DETACH; the settings only when no socket carries our mark any more, because those
 * sockets' packets stay in the pod by them; `prohibit` after everything else that concerns packets, so none gets out in the clear.
 */
import { podState, wire, type Maps } from '../../maps/index.ts';
import { Netns } from '../../sys/netns.ts';
import type { Datapath } from './join.ts';
import { keptSysctls } from './kept-sysctls.ts';
import { takeSettingsBack } from './netns-settings.ts';
import { removeByAddress, removeEntries, type Written } from './pod-entries.ts';
import { detachPodLink, removePodDir } from './pod-link.ts';

const TCP_ESTABLISHED = 1;
const TCP_LISTEN = 10;
const FIRST_PAUSE_MS = 2;
const LONGEST_PAUSE_MS = 50;
/** Connections inside one netns that have begun are through by then. */
const HANDSHAKES_MS = 100;

const marked: { mark: number; mask: number } = { mark: wire.MARK_LOCAL, mask: wire.MARK_MASK };

/**
 * @param netnsFd undefined when the netns is gone: its settings went with it
 * @param deadlineMs how long captured connections may take to end by themselves; "successor": another redirect has the netns, whose rule
 *   and route are ours. Connections that are open need no more than these (their sockets have the mark), so they go on.
 * @throws CulvertError SYSTEM when a setting could not be taken back; the entries are left then, and doing it again continues
 */
export async function leaveNetns(
  path: Datapath,
  cookie: bigint,
  written: Written,
  netnsFd: number | undefined,
  deadlineMs: number | 'successor',
): Promise<void> {
  const { pins, maps } = path;
  markDraining(maps, cookie);
  if (deadlineMs === 'successor') await handshakes();
  detachPodLink(pins, cookie);
  removeByAddress(maps, cookie, written);
  if (deadlineMs === 'successor') {
    // The connect hook marks the tunnel's connections to the app for as long as it knows the netns, and these need the sysctls.
    removeEntries(maps, cookie, written);
    await handshakes();
  }
  if (netnsFd !== undefined) {
    const netns = Netns.adopt(netnsFd, String(cookie));
    if (deadlineMs !== 'successor') await endMarkedSockets(netns, deadlineMs);
    takeSettingsBack(netns, keptSysctls(pins, cookie), deadlineMs === 'successor' ? 'rule and route stay' : 'all');
  }
  removeEntries(maps, cookie, written);
  removePodDir(pins, cookie);
}

/** Without the hook a captured connect would find no way: an active netns must not lose it before new connections go direct. */
function markDraining(maps: Maps, cookie: bigint): void {
  const pod = maps.pods.get(cookie);
  if (pod?.state === podState.POD_ACTIVE) maps.pods.set(cookie, { ...pod, state: podState.POD_DRAINING });
}

/** Connections of a netns that take the tunnel: the applications' own sockets, and the tunnel's towards them. */
export function capturedConnections(netns: Netns): number {
  return netns.run({ op: 'sockets', ...marked }).filter(({ state }) => state === TCP_ESTABLISHED).length;
}

/** What has begun by our rules ends by them, so that no SYN meets half of each redirect. */
function handshakes(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, HANDSHAKES_MS));
}

async function endMarkedSockets(netns: Netns, deadlineMs: number): Promise<void> {
  const deadline = performance.now() + deadlineMs;
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
    const sockets = netns.run({ op: 'sockets', ...marked }).filter((s) => s.state !== TCP_LISTEN);
    if (sockets.length === 0) return;
    const left = deadline - performance.now();
    if (left <= 0) break;
    await new Promise((resolve) => setTimeout(resolve, Math.min(pause, left)));
  }
  netns.run({ op: 'sockets-destroy', ...marked });
}
