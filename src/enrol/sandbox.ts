/** Which netns a pod has now: by the plugin's word or the source's, and whether the one that is open is still it. */
import { describe, isCulvert } from '../base/errors.ts';
import type { OpenNetns } from './netns.ts';
import type { Entry } from './registry.ts';

/** True when the pod's open netns is not its own any more: removed, gone, or another one stands at its path. */
export function replaced(entry: Entry, open: OpenNetns): boolean {
  const { netns } = entry.pod.subject;
  if (netns === undefined) return false;
  if (entry.retired === netns.cookie || netns.gone()) return true;
  const path = pathOf(entry);
  if (path === undefined || path === netns.path || path === entry.alias) return false;
  try {
    const other = open(path);
    other.close();
    if (other.cookie !== netns.cookie) return true;
    entry.alias = path;
  } catch {
    // a path that leads nowhere is no reason to take a pod out that works
  }
  return false;
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
  if (path === undefined) return wait('its network namespace is not known yet');
  if (ips.length === 0 && state === 'out') return wait('it has no address yet');
  try {
    const netns = open(path);
    if (netns.cookie === entry.retired) {
      netns.close();
      return wait('its sandbox was removed, the next one is not there yet');
    }
    if (subject.cookie !== undefined && subject.cookie !== netns.cookie) {
      netns.close();
      entry.pod.send('netnsGone');
      return wait('its sandbox was replaced');
    }
    subject.netns = netns;
    return true;
  } catch (error) {
    if (state !== 'out' && isCulvert(error, 'NETNS_GONE')) entry.pod.send('netnsGone');
    return wait(describe(error));
  }
}

/** The pod that holds the netns at this path: by a path it is known under, else by its cookie. */
export function holderOf(entries: Entry[], path: string, open: OpenNetns): Entry | undefined {
  const known = entries.find(
    ({ pod, alias, sandbox }) => pod.subject.netns !== undefined && [pod.subject.netns.path, alias, sandbox?.netns].includes(path),
  );
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
}

function pathOf(entry: Entry): string | undefined {
  return entry.sandbox?.netns ?? entry.record?.netns;
}
