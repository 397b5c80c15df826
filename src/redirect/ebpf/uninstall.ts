/**
 * Takes everything of one instance off the node: first each netns that is still behind the redirect, then the programs, the maps last.
 * Works from the pins alone, so also for an operator whose agent is long gone. May be interrupted and repeated.
 */
import { renameSync, rmdirSync } from 'node:fs';
import { CulvertError, describe, isCulvert, isSystem } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { openPinnedMaps, type Maps } from '../../maps/index.ts';
import { Netns } from '../../sys/netns.ts';
import { openByCookie } from '../../sys/netns-search.ts';
import type { EnrolledNetns } from '../driver.ts';
import { unshelter } from '../istio-cni/shelter.ts';
import { forgetOpenStreams } from '../open-streams.ts';
import { detachPin } from './cgroup-links.ts';
import { leaveNetns } from './leave.ts';
import { lockPins } from './lock.ts';
import { checkOwner, readOwner } from './owner.ts';
import { list, makeDir, pinsIn, removeTree, temporary, type Pins } from './pins.ts';
import { nothingWritten, readWritten } from './pod-entries.ts';
import { allEnrolled } from './pod-identity.ts';

export interface Heir {
  /** its rules capture there already */
  serves: (netns: Netns) => boolean;
}

export interface UninstallOptions {
  pinDir: string;
  /** undefined: whoever's pins they are, the operator has named the directory */
  instance: bigint | undefined;
  /** the node's procfs: where a netns is looked for whose path is no longer there */
  procRoot: string;
  /** per netns, for captured connections to end */
  deadlineMs: number;
  /** somebody else's redirect, which some of the pods are handed over to */
  heir?: Heir;
  /** takes programs and maps away also when a netns could not be put back as it was */
  force: boolean;
  log: Logger;
}

export interface Uninstalled {
  /** "namespace/name" of what was behind the redirect */
  pods: string[];
  /** false: there was nothing */
  pins: boolean;
}

/**
 * @throws PIN_BUSY an agent runs on these pins; PIN_FOREIGN, MAP_LAYOUT they are another instance's or version's; SYSTEM naming each netns
 *   that could not be put back (without `force` everything else is still there then)
 */
export async function uninstallEbpf(o: UninstallOptions): Promise<Uninstalled> {
  const pins = pinsIn(o.pinDir);
  const done: Uninstalled = { pods: [], pins: list(pins.maps).length > 0 };
  const faults: string[] = [];
  if (done.pins) await takeOff(o, pins, done.pods, faults);
  removeScratch(pins);
  removeEmpty(pins.dir);
  if (faults.length > 0) throw new CulvertError('SYSTEM', `take off the datapath: ${faults.join('; ')}`);
  return done;
}

async function takeOff(o: UninstallOptions, pins: Pins, pods: string[], faults: string[]): Promise<void> {
  const instance = o.instance ?? readOwner(pins)?.instance ?? 0n;
  checkOwner(pins, instance);
  const maps = openPinnedMaps(pins.maps);
  try {
    const lock = lockPins(maps.listeners.fd, -1, pins.dir);
    try {
      await leaveAll(o, pins, maps, pods, faults);
      if (faults.length > 0 && !o.force)
        throw new CulvertError('SYSTEM', `take off the datapath in ${pins.dir}: ${faults.join('; ')}; try again`);
      for (const name of list(pins.links)) detachPin(`${pins.links}/${name}`);
      for (const dir of [pins.links, pins.progs, pins.constants, pins.pods]) removeTree(dir);
      // The proof of whose all this is goes last, and in one step.
      const scratch = temporary(pins, instance);
      makeDir(scratch);
      renameSync(pins.maps, `${scratch}/maps`);
    } finally {
      lock.close();
    }
  } finally {
    maps.close();
  }
}

async function leaveAll(o: UninstallOptions, pins: Pins, maps: Maps, pods: string[], faults: string[]): Promise<void> {
  const written = readWritten(maps);
  const path = { pins, maps, log: o.log };
  await Promise.all(
    allEnrolled(maps).map(async (pod) => {
      const name = `${pod.namespace}/${pod.name}`;
      let netns: Netns | undefined;
      try {
        netns = find(pod, o.procRoot);
        const heir = netns !== undefined && o.heir?.serves(netns) === true;
        await leaveNetns(path, pod.cookie, written.get(pod.cookie) ?? nothingWritten(), netns?.fd, heir ? 'successor' : o.deadlineMs);
        if (netns !== undefined) unshelter(netns);
        if (netns !== undefined && !heir) forgetOpenStreams(netns);
        pods.push(name);
        o.log.info({ pod: name, cookie: String(pod.cookie) }, 'pod taken out of the redirect');
      } catch (error) {
        faults.push(`netns of ${name}: ${describe(error)}`);
      } finally {
        netns?.close();
      }
    }),
  );
}

/** undefined: it is gone, and its settings with it */
function find(pod: EnrolledNetns, procRoot: string): Netns | undefined {
  if (pod.netnsPath !== '') {
    try {
      const netns = Netns.open(pod.netnsPath);
      if (netns.cookie === pod.cookie) return netns;
      netns.close();
    } catch (error) {
      if (!isCulvert(error, 'NETNS_GONE')) throw error;
    }
  }
  return openByCookie(pod.cookie, procRoot);
}

/** What an interrupted run had renamed already. Names of this form are nobody else's; anything else in the directory is not ours. */
function removeScratch(pins: Pins): void {
  for (const name of list(pins.dir)) if (/^tmp-[0-9a-f]+-\d+$/.test(name)) removeTree(`${pins.dir}/${name}`);
}

function removeEmpty(dir: string): void {
  try {
    rmdirSync(dir);
  } catch (error) {
    if (!['ENOENT', 'ENOTEMPTY', 'EBUSY'].some((code) => isSystem(error, code))) throw error;
  }
}
