/** A netns joins: everything in the order of its safety, taken back from the end when a step fails. */
import { CulvertError, describe } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { podState, type Maps } from '../../maps/index.ts';
import { Netns } from '../../sys/netns.ts';
import type { PodTarget } from '../driver.ts';
import { keptSysctls, rememberSysctls } from './kept-sysctls.ts';
import { inspectNetns, takeSettingsBack } from './netns-settings.ts';
import type { Pins } from './pins.ts';
import { nothingWritten, removeEntries } from './pod-entries.ts';
import { flagBits, identityOf } from './pod-identity.ts';
import { attachPodLink, detachPodLink, removePodDir } from './pod-link.ts';
import { PodWatch } from './pod-watch.ts';
import type { SparePrograms } from './spare-programs.ts';

export interface Datapath {
  pins: Pins;
  maps: Maps;
  log: Logger;
}

/**
 * Probes exempt, own addresses, rules, routes, sysctls, sk_lookup link, and last `pods` = prepared. Nothing is captured by it.
 * @throws CulvertError MAP_FULL, SYSTEM, VERIFIER; the netns and the maps are then as before
 */
export function joinNetns(path: Datapath, programs: SparePrograms, cookie: bigint, pod: PodTarget): PodWatch {
  const { pins, maps } = path;
  const undo: (() => void)[] = [];
  const written = nothingWritten();
  try {
    const netns = Netns.adopt(pod.netnsFd, String(cookie));
    const view = inspectNetns(netns);
    undo.push(() => removePodDir(pins, cookie));
    rememberSysctls(pins, cookie, view);
    undo.push(() => removeEntries(maps, cookie, written));
    maps.identity.set(cookie, identityOf(pod));
    undo.push(() => takeSettingsBack(netns, keptSysctls(pins, cookie)));
    const watch = new PodWatch(cookie, pod.netnsFd, written, maps, path.log);
    undo.push(() => watch.close());
    watch.sync(view);
    undo.push(() => detachPodLink(pins, cookie));
    attachPodLink(pins, cookie, pod.netnsFd, programs);
    maps.pods.set(cookie, { state: podState.POD_PREPARED, flags: flagBits(pod.flags) });
    return watch;
  } catch (error) {
    for (const step of undo.toReversed()) attempt(path, cookie, step);
    throw error instanceof CulvertError
      ? error
      : new CulvertError('SYSTEM', `prepare netns ${cookie} of pod ${pod.namespace}/${pod.name}`, error);
  }
}

/** One step of an undo: the others must be tried when it fails, and the first error is the one to report. */
function attempt(path: Datapath, cookie: bigint, step: () => void): void {
  try {
    step();
  } catch (error) {
    path.log.error({ cookie: String(cookie), error: describe(error) }, 'undo a netns that could not be prepared');
  }
}
