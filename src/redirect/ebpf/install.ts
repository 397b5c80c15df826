/**
 * Puts maps and programs into the kernel, or adopts what is there. Everything new is pinned under tmp-… and renamed; until the rename
 * of the maps nothing of a first installation is visible, and when a step fails it is taken back.
 */
import { renameSync } from 'node:fs';
import { CulvertError, systemCause } from '../../base/errors.ts';
import { mapsOf, pinnedMaps, type Maps } from '../../maps/index.ts';
import { isBpffs } from '../../sys/bpffs.ts';
import { native, type LoadedObject } from '../../sys/native.ts';
import { LOOKUP_PROGRAM } from './attach-points.ts';
import { dropCgroupLinks, ensureCgroupLinks, isPinnedProgram, programOf, type LinkReport } from './cgroup-links.ts';
import { constantsAreLive, fingerprint, forgetConstants, rememberConstants, type Constants } from './constants.ts';
import { lockPins } from './lock.ts';
import { mapSizes } from './map-sizes.ts';
import { checkOwner, ownerOf } from './owner.ts';
import { list, makeDir, pinnedCookies, pinsIn, removeLeftovers, removeTree, replacePin, temporary, type Pins } from './pins.ts';
import { updatePodLinks } from './pod-link.ts';
import { podTemplate, type PodTemplate } from './pod-program.ts';

export interface InstallOptions {
  object: Uint8Array;
  pinDir: string;
  cgroupRoot: string;
  nodeNetnsFd: number;
  instance: bigint;
  version: string;
  maxPods: number;
  constants: Constants;
  /** the maps are there, the programs are not attached yet: what they must find from their first run on */
  fill: (maps: Maps) => void;
}

export interface Installed {
  pins: Pins;
  maps: Maps;
  /** the sk_lookup program that each netns gets a copy of */
  template: PodTemplate;
  /** entries each map has room for: those of an adopted map stay what they were */
  sizes: Record<string, number>;
  report: LinkReport & { podLinksUpdated: number; leftovers: string[] };
  close(): void;
}

/**
 * @throws CulvertError PIN_FOREIGN another instance's pins, untouched; PIN_BUSY another agent on them; MAP_LAYOUT pins of another
 *   layout; VERIFIER with the kernel's log; KERNEL_UNSUPPORTED pinDir is not on bpffs
 */
export function install(o: InstallOptions): Installed {
  const pins = pinsIn(o.pinDir);
  makePinDir(pins.dir);
  const first = list(pins.maps).length === 0;
  if (!first) checkOwner(pins, o.instance);
  const scratch = temporary(pins, o.instance);
  const undo: (() => void)[] = [];
  try {
    const lock = first ? undefined : lockExisting(pins, o.nodeNetnsFd);
    if (lock !== undefined) undo.push(() => lock.close());
    const leftovers = removeLeftovers(pins, o.instance);
    const object = load(o, pins, first);
    undo.push(() => object.close());
    const maps = mapsOf(object);
    const held = lock ?? publishMaps(o, pins, object, maps, scratch);
    if (lock === undefined)
      undo.push(
        () => removeTree(pins.dir),
        () => held.close(),
      );
    else pinNewMaps(object, pins, scratch);

    o.fill(maps);
    const hash = fingerprint(o.constants);
    const sameConstants = constantsAreLive(pins, hash);
    if (!sameConstants) forgetConstants(pins);
    for (const dir of [pins.links, pins.progs, pins.pods]) makeDir(dir);
    if (first) undo.push(() => dropCgroupLinks(pins, list(pins.links)));
    const report = ensureCgroupLinks({
      pins,
      object,
      cgroupRoot: o.cgroupRoot,
      sameConstants,
      asksForTag: o.constants['kubelet_only'] === 1,
      scratch,
    });
    const template = podTemplate(object);
    const podLinksUpdated = refreshTemplate(pins, object, template, sameConstants, scratch);
    if (!sameConstants) rememberConstants(pins, hash);
    removeTree(scratch);
    return {
      pins,
      maps,
      template,
      report: { ...report, podLinksUpdated, leftovers },
      sizes: Object.fromEntries(pinnable(object).map((m) => [m.name, native.bpfInfo(m.fd).maxEntries ?? m.maxEntries])),
      close: () => {
        maps.close();
        held.close();
        object.close();
      },
    };
  } catch (error) {
    removeTree(scratch);
    for (const step of undo.toReversed()) step();
    throw error;
  }
}

function makePinDir(dir: string): void {
  try {
    makeDir(dir);
  } catch (error) {
    throw new CulvertError('SYSTEM', `make pin directory ${dir}`, error);
  }
  if (!isBpffs(dir)) throw new CulvertError('KERNEL_UNSUPPORTED', `use pin directory ${dir}: it is not on bpffs`);
}

/** Without the sections of constants and the storages of sockets, which belong to the programs. */
function pinnable(object: LoadedObject): LoadedObject['maps'] {
  const names: readonly string[] = pinnedMaps;
  return object.maps.filter((m) => names.includes(m.name));
}

function load(o: InstallOptions, pins: Pins, first: boolean): LoadedObject {
  // a later version, taken back, may have left maps that this one does not know: they stay as they are
  const known = list(pins.maps).filter((name) => (pinnedMaps as readonly string[]).includes(name));
  const reuse = first ? {} : Object.fromEntries(known.map((name) => [name, `${pins.maps}/${name}`]));
  try {
    return native.bpfLoad(o.object, { rodata: o.constants, reuse, maxEntries: mapSizes(o.maxPods) });
  } catch (error) {
    const detail = error as { program?: string; log?: string; map?: string };
    if (detail.map !== undefined) throw new CulvertError('MAP_LAYOUT', `adopt pins in ${pins.maps}`, error);
    if (detail.program !== undefined) throw new CulvertError('VERIFIER', `load program ${detail.program}: ${lastWords(detail.log)}`, error);
    throw new CulvertError('VERIFIER', 'load programs', error);
  }
}

/** The line of a verifier log that says what was wrong: the last one that is not its statistics. */
function lastWords(log: string | undefined): string {
  const lines = (log ?? '').split('\n').filter((l) => l.trim() !== '' && !/^(processed \d+|verification time|stack depth)/.test(l));
  return lines.at(-1)?.trim() ?? 'refused';
}

function lockExisting(pins: Pins, nodeNetnsFd: number): { close(): void } {
  const fd = native.bpfGet(`${pins.maps}/listeners`);
  try {
    return lockPins(fd, nodeNetnsFd, pins.dir);
  } finally {
    native.closeFd(fd);
  }
}

/** First installation: owner and lock are in the maps before anybody can see them. */
function publishMaps(o: InstallOptions, pins: Pins, object: LoadedObject, maps: Maps, scratch: string): { close(): void } {
  maps.owner.set(0, ownerOf(o.instance, o.version));
  const lock = lockPins(maps.listeners.fd, o.nodeNetnsFd, pins.dir);
  try {
    makeDir(`${scratch}/maps`);
    for (const map of pinnable(object)) native.bpfPin(map.fd, `${scratch}/maps/${map.name}`);
    renameSync(`${scratch}/maps`, pins.maps);
    return lock;
  } catch (error) {
    lock.close();
    if (['ENOTEMPTY', 'EEXIST'].includes(systemCause(error).systemCode ?? '')) {
      throw new CulvertError('PIN_BUSY', `pin maps in ${pins.maps}: another agent was quicker`, error);
    }
    throw error;
  }
}

/** A newer object may bring maps that the pins of an older one lack. */
function pinNewMaps(object: LoadedObject, pins: Pins, scratch: string): void {
  const known = new Set(list(pins.maps));
  for (const map of pinnable(object)) {
    if (!known.has(map.name)) replacePin((to) => native.bpfPin(map.fd, to), `${pins.maps}/${map.name}`, scratch);
  }
}

/** @returns links of pods that got the new program */
function refreshTemplate(pins: Pins, object: LoadedObject, template: PodTemplate, sameConstants: boolean, scratch: string): number {
  const program = programOf(object, LOOKUP_PROGRAM);
  const path = `${pins.progs}/${LOOKUP_PROGRAM}`;
  if (sameConstants && isPinnedProgram(path, program)) return 0;
  // pods first, template last: after a crash in between all of them are updated again, which does no harm
  const updated = updatePodLinks(pins, pinnedCookies(pins), template);
  replacePin((to) => native.bpfPin(program.fd, to), path, scratch);
  return updated;
}
