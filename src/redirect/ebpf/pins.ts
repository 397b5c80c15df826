/**
 * Where everything of one instance is pinned. bpffs refuses names with a dot and holds no regular files, but it holds directories:
 * a marker is an empty directory.
 *
 *   <pinDir>/maps/<name>                 the maps, all of them from one rename on
 *   <pinDir>/progs/<program>             what was last attached, so that a restart can compare tags
 *   <pinDir>/links/<program>             the cgroup links
 *   <pinDir>/constants/<hash>            marker: the constants compiled into those programs (a tag does not cover them)
 *   <pinDir>/pods/<cookie hex>/lookup    the sk_lookup link of one netns
 *   <pinDir>/pods/<cookie hex>/keep_*    marker: this sysctl was set before us, leave it set
 *   <pinDir>/tmp-<instance hex>-<pid>/   being built; removed when found
 */
import { mkdirSync, readdirSync, renameSync, rmdirSync, unlinkSync } from 'node:fs';
import { isSystem } from '../../base/errors.ts';

export interface Pins {
  readonly dir: string;
  readonly maps: string;
  readonly progs: string;
  readonly links: string;
  readonly constants: string;
  readonly pods: string;
  pod(cookie: bigint): string;
  lookup(cookie: bigint): string;
}

export function pinsIn(dir: string): Pins {
  const pods = `${dir}/pods`;
  return {
    dir,
    maps: `${dir}/maps`,
    progs: `${dir}/progs`,
    links: `${dir}/links`,
    constants: `${dir}/constants`,
    pods,
    pod: (cookie) => `${pods}/${cookie.toString(16)}`,
    lookup: (cookie) => `${pods}/${cookie.toString(16)}/lookup`,
  };
}

/** Cookies that have a directory under pods/. */
export function pinnedCookies(pins: Pins): bigint[] {
  return list(pins.pods)
    .filter((name) => /^[0-9a-f]+$/.test(name))
    .map((name) => BigInt(`0x${name}`));
}

/** Names in a directory; empty when it is not there. */
export function list(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch (error) {
    if (isSystem(error, 'ENOENT')) return [];
    throw error;
  }
}

export function makeDir(dir: string): void {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
}

/** Removes a pin; what it held lives on while attached, opened or pinned elsewhere. False when there was none. */
export function unpin(path: string): boolean {
  try {
    unlinkSync(path);
    return true;
  } catch (error) {
    if (isSystem(error, 'ENOENT')) return false;
    throw error;
  }
}

/** A directory of pins and markers with all below it. (fs.rm would stat every entry first; on bpffs two calls do.) */
export function removeTree(dir: string): void {
  for (const name of list(dir)) {
    const path = `${dir}/${name}`;
    try {
      unlinkSync(path);
    } catch (error) {
      if (!isSystem(error, 'EISDIR') && !isSystem(error, 'EPERM')) throw error;
      removeTree(path);
    }
  }
  try {
    rmdirSync(dir);
  } catch (error) {
    if (!isSystem(error, 'ENOENT')) throw error;
  }
}

/** Our own unfinished work of an earlier run; another instance's is left alone. */
export function removeLeftovers(pins: Pins, instance: bigint): string[] {
  const prefix = `tmp-${instance.toString(16)}-`;
  const found = list(pins.dir).filter((name) => name.startsWith(prefix));
  for (const name of found) removeTree(`${pins.dir}/${name}`);
  return found;
}

export function temporary(pins: Pins, instance: bigint): string {
  return `${pins.dir}/tmp-${instance.toString(16)}-${process.pid}`;
}

/** Puts a new pin in place of an old one in one step: readers see the old or the new, never neither. */
export function replacePin(pin: (path: string) => void, path: string, scratch: string): void {
  makeDir(scratch);
  const name = `${scratch}/${path.slice(path.lastIndexOf('/') + 1)}`;
  unpin(name);
  pin(name);
  renameSync(name, path);
}
