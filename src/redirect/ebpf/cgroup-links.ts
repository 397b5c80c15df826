/**
 * The links of the node's programs to the root of cgroup v2. A restart finds the same program live and leaves the link as it is; a
 * changed program is put in by BPF_LINK_UPDATE, one link at a time: no connection ever meets a hook without program.
 */
import { closeSync, openSync } from 'node:fs';
import { CulvertError, isSystem } from '../../base/errors.ts';
import { native, type BpfInfo, type LoadedObject, type ProgramInfo } from '../../sys/native.ts';
import { CGROUP_PROGRAMS, cgroupPrograms } from './attach-points.ts';
import { replacePin, unpin, type Pins } from './pins.ts';

export interface LinkReport {
  adopted: string[];
  updated: string[];
  created: string[];
}

export interface LinkOptions {
  pins: Pins;
  object: LoadedObject;
  cgroupRoot: string;
  /** the live programs were loaded with the same constants */
  sameConstants: boolean;
  /**
   * The connect hooks tag kubelet's sockets, and the callback asks for the tag. While links are changed one by one, who asks must never
   * run beside who does not tag: the callback is changed last when asking begins, and first when it ends.
   */
  asksForTag: boolean;
  /** directory for pins on their way */
  scratch: string;
}

/** @throws the kernel's refusal; links that were changed before it stay changed: old and new programs read the same maps */
export function ensureCgroupLinks(o: LinkOptions): LinkReport {
  const report: LinkReport = { adopted: [], updated: [], created: [] };
  const cgroup = openCgroup(o.cgroupRoot);
  const cgroupId = native.cgroupId(o.cgroupRoot);
  try {
    const others = cgroupPrograms.filter((name) => name !== 'sock_ops');
    for (const name of o.asksForTag ? [...others, 'sock_ops' as const] : ['sock_ops' as const, ...others]) {
      const program = programOf(o.object, name);
      const path = `${o.pins.links}/${name}`;
      const link = openPin(path);
      try {
        const info = link === undefined ? undefined : native.bpfInfo(link);
        if (link === undefined || info?.cgroupId !== cgroupId) {
          // none, or its cgroup is gone or no longer the root (the kernel then says 0, or another id)
          replaceLink(program, cgroup, CGROUP_PROGRAMS[name], path, o.scratch);
          report.created.push(name);
        } else if (o.sameConstants && isPinnedProgram(`${o.pins.progs}/${name}`, program, info)) {
          report.adopted.push(name);
          continue;
        } else {
          native.bpfLinkUpdate(link, program.fd);
          report.updated.push(name);
        }
        replacePin((to) => native.bpfPin(program.fd, to), `${o.pins.progs}/${name}`, o.scratch);
      } finally {
        if (link !== undefined) native.closeFd(link);
      }
    }
  } finally {
    closeSync(cgroup);
  }
  return report;
}

/** Takes every link off, for the undo of a first installation. */
export function dropCgroupLinks(pins: Pins, names: string[]): void {
  for (const name of names) unpin(`${pins.links}/${name}`);
}

export function programOf(object: LoadedObject, name: string): ProgramInfo {
  const program = object.programs.find((p) => p.name === name);
  if (program === undefined) throw new CulvertError('VERIFIER', `load programs: the object has no program ${name}`);
  return program;
}

/** Fd of a pin, undefined when there is none. */
export function openPin(path: string): number | undefined {
  try {
    return native.bpfGet(path);
  } catch (error) {
    if (isSystem(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/**
 * Off its hook at once, then unpinned: unlinking alone would detach some time later, and connections in between would still meet a
 * datapath that is being taken apart.
 */
export function detachPin(path: string): void {
  const fd = openPin(path);
  if (fd === undefined) return;
  try {
    native.bpfLinkDetach(fd);
  } catch (error) {
    // the cgroup or netns is gone and took the link off the hook itself
    if (!isSystem(error, 'ENOLINK') && !isSystem(error, 'EINVAL')) throw error;
  } finally {
    native.closeFd(fd);
  }
  unpin(path);
}

/** True when the pin holds this very program (by tag) and, if given, the link runs it. */
export function isPinnedProgram(path: string, program: ProgramInfo, link?: BpfInfo): boolean {
  const fd = openPin(path);
  if (fd === undefined) return false;
  try {
    const info = native.bpfInfo(fd);
    return info.tag === program.tag && (link === undefined || link.progId === info.id);
  } finally {
    native.closeFd(fd);
  }
}

function replaceLink(program: ProgramInfo, cgroup: number, attachType: number, path: string, scratch: string): void {
  const fd = native.bpfLinkCreate(program.fd, cgroup, attachType);
  try {
    replacePin((to) => native.bpfPin(fd, to), path, scratch);
  } finally {
    native.closeFd(fd);
  }
}

function openCgroup(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (error) {
    throw new CulvertError('CGROUP_ROOT', `open cgroup root ${path}`, error);
  }
}
