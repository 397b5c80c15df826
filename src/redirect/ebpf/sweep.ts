/**
 * What earlier runs of this instance left: netns that died while no agent looked, joinings that never finished, entries without an
 * owner. Runs once at start, before anything is enrolled. What belongs to a living enrolled netns is left alone.
 */
import { describe, isCulvert } from '../../base/errors.ts';
import { podState } from '../../maps/index.ts';
import { Netns } from '../../sys/netns.ts';
import type { Datapath } from './join.ts';
import { keptSysctls } from './kept-sysctls.ts';
import { takeSettingsBack } from './netns-settings.ts';
import { pinnedCookies } from './pins.ts';
import { nothingWritten, removeEntries, removeListeners, type Written } from './pod-entries.ts';
import { listenersOf } from './listeners.ts';
import { detachPodLink, podLinkState, removePodDir } from './pod-link.ts';

export interface SweepReport {
  /** cookies of netns that are gone */
  dead: bigint[];
  /** cookies of netns whose joining did not finish */
  unfinished: bigint[];
  /** cookies that had entries and nothing else */
  orphans: bigint[];
}

/** @param written what the maps hold; entries of removed cookies are taken out of it */
export function sweep(path: Datapath, written: Map<bigint, Written>): SweepReport {
  const { pins, maps } = path;
  const report: SweepReport = { dead: [], unfinished: [], orphans: [] };
  const enrolled = new Set(maps.pods.keys());
  const pinned = new Set(pinnedCookies(pins));
  const remove = (cookie: bigint): void => {
    removeEntries(maps, cookie, written.get(cookie) ?? nothingWritten());
    written.delete(cookie);
    removePodDir(pins, cookie);
  };
  for (const cookie of pinned) {
    if (!enrolled.has(cookie)) report.unfinished.push(cookie);
    else if (isGone(path, cookie)) report.dead.push(cookie);
  }
  for (const cookie of report.dead) {
    detachPodLink(pins, cookie);
    remove(cookie);
    enrolled.delete(cookie);
  }
  for (const cookie of report.unfinished) {
    detachPodLink(pins, cookie);
    leaveByPath(path, cookie);
    remove(cookie);
  }
  const owned = (cookie: bigint): boolean => enrolled.has(cookie) || pinned.has(cookie);
  const keyed = [...maps.counters.keys(), ...maps.nodeSources.keys()].map(({ cookie }) => cookie);
  const strays = [...written.keys(), ...maps.identity.keys(), ...keyed].filter((c) => !owned(c));
  for (const cookie of new Set(strays)) {
    remove(cookie);
    report.orphans.push(cookie);
  }
  for (const { cookie } of maps.generation.keys()) {
    // a generation without a listener would fill the map; one with may be about to be enrolled
    if (!owned(cookie) && listenersOf(maps, cookie).every((l) => !l.alive)) removeListeners(maps, cookie);
  }
  return report;
}

/**
 * The kernel forgets a link's netns when the netns dies, but also when the link is detached, which is our own first step of leaving.
 * While draining only the path tells the two apart; without a path the agent, which knows its pods, has to say.
 */
function isGone({ pins, maps }: Datapath, cookie: bigint): boolean {
  if (podLinkState(pins, cookie) !== 'dead') return false;
  if (maps.pods.get(cookie)?.state !== podState.POD_DRAINING) return true;
  const netns = maps.identity.get(cookie)?.netns ?? '';
  return netns !== '' && !useNetns(netns, cookie, () => undefined);
}

/** The settings of a netns of which only the path is known. Nobody waits for them: an error is logged. */
function leaveByPath({ pins, maps, log }: Datapath, cookie: bigint): void {
  const netns = maps.identity.get(cookie)?.netns ?? '';
  try {
    if (netns !== '') useNetns(netns, cookie, (open) => takeSettingsBack(open, keptSysctls(pins, cookie)));
  } catch (error) {
    log.warn({ cookie: String(cookie), netns, error: describe(error) }, 'undo an unfinished joining');
  }
}

/** @returns false when the path no longer leads to this netns */
function useNetns(path: string, cookie: bigint, use: (netns: Netns) => void): boolean {
  try {
    using netns = Netns.open(path);
    if (netns.cookie !== cookie) return false;
    use(netns);
    return true;
  } catch (error) {
    if (isCulvert(error, 'NETNS_GONE')) return false;
    throw error;
  }
}
