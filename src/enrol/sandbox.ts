/** Which netns a pod has now: by the plugin's word or the source's, and whether the one that is open is still it. */
import { describe, isCulvert } from '../base/errors.ts';
import { underPath, type Netns, type OpenNetns } from './netns.ts';
import type { Entry } from './registry.ts';

/** True when the pod's open netns is not its own any more: removed, gone, or another one stands at its path. */
export function replaced(entry: Entry, open: OpenNetns): boolean {
  const { netns } = entry.pod.subject;
  if (netns === undefined) return false;
  if (entry.retired === netns.cookie || entry.netns === 'lost') return true;
  if (entry.netns === 'named' && netns.gone()) return true;
  const path = pathOf(entry);
  if (path === undefined || path === netns.path || path === entry.alias) return false;
  try {
    const other = open(path);
    if (other.cookie !== netns.cookie) {
      other.close();
      return true;
    }
    entry.alias = netns.path;
    entry.pod.subject.netns = underPath(netns, other);
    entry.netns = 'named';
  } catch {
    // a path that leads nowhere is no reason to take a pod out that works
  }
  return false;
}

/** True when only looking for it can tell where the pod's netns is, or whether it still is: nobody named it. */
export function toSeek(entry: Entry): boolean {
  const { netns } = entry.pod.subject;
  const unknown = netns === undefined || (entry.netns === 'found' && netns.gone());
  return unknown && pathOf(entry) === undefined && (entry.record?.ips.length ?? 0) > 0;
}

/**
 * Takes in what was looked for. @returns true when that changes what is to be done for the pod
 * @param netns owned by the entry from here on; undefined: nothing of the pod is in any
 */
export function takeFound(entry: Entry, netns: Netns | undefined): boolean {
  const { subject } = entry.pod;
  if (!toSeek(entry)) {
    netns?.close(); // somebody named it meanwhile
    return false;
  }
  if (subject.netns !== undefined) {
    if (netns?.cookie === subject.netns.cookie) {
      subject.netns = underPath(subject.netns, netns);
      return false;
    }
    netns?.close(); // found again when the pod is out of the old one
    entry.netns = 'lost';
    return true;
  }
  if (netns === undefined) return false;
  const why = unusable(entry, netns);
  if (why !== undefined) {
    netns.close();
    entry.waitingFor = why;
    return false;
  }
  subject.netns = netns;
  entry.netns = 'found';
  return true;
}

/** Opens the pod's netns if need be. @returns true when the pod can be worked on; else `waitingFor` says why not */
export function found(entry: Entry, open: OpenNetns): boolean {
  const { subject, state } = entry.pod;
  if (subject.netns !== undefined) return true;
  const wait = (why: string): false => {
    entry.waitingFor = why;
    return false;
  };
  const path = pathOf(entry);
  const ips = entry.sandbox?.ips ?? entry.record?.ips ?? [];
  if (ips.length === 0 && state === 'out') return wait('it has no address yet');
  if (path === undefined) return wait('its network namespace is not known yet');
  try {
    const netns = open(path);
    const why = unusable(entry, netns);
    if (why !== undefined) {
      netns.close();
      return wait(why);
    }
    subject.netns = netns;
    entry.netns = 'named';
    return true;
  } catch (error) {
    if (isCulvert(error, 'NETNS_GONE')) {
      entry.sandbox = undefined; // its DEL came before, or never: it must not hinder that the pod is looked for
      if (state !== 'out') entry.pod.send('netnsGone');
    }
    return wait(describe(error));
  }
}

/** Why this netns can not be the one to work on now. */
function unusable(entry: Entry, netns: Netns): string | undefined {
  if (netns.cookie === entry.retired) return 'its sandbox was removed, the next one is not there yet';
  const { cookie } = entry.pod.subject;
  if (cookie === undefined || cookie === netns.cookie) return undefined;
  entry.pod.send('netnsGone');
  return 'its sandbox was replaced';
}

/** The pod whose netns is at this path, also of one that nobody works on: by a path it is known under, else by its cookie. */
export function holderOf(entries: Entry[], path: string, open: OpenNetns): Entry | undefined {
  const known = entries.find(({ pod, alias, sandbox }) => [pod.subject.netns?.path, alias, sandbox?.netns].includes(path));
  if (known !== undefined) return known;
  try {
    const netns = open(path);
    netns.close();
    return entries.find(({ pod }) => pod.subject.netns?.cookie === netns.cookie);
  } catch {
    return undefined; // nothing there any more
  }
}

export function release(entry: Entry): void {
  entry.pod.subject.netns?.close();
  entry.pod.subject.netns = undefined;
  entry.alias = undefined;
  entry.netns = 'named';
}

function pathOf(entry: Entry): string | undefined {
  return entry.sandbox?.netns ?? entry.record?.netns;
}
