/** The plugin's verbs as the agent does them. ADD and DEL have their own file; CHECK reads, GC lets go of what the runtime forgot. */
import { CulvertError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { reason } from '../enrol/registry.ts';
import type { PodTarget, RedirectDriver } from '../redirect/driver.ts';
import { namespaceId } from '../sys/procfs.ts';
import type { CniCheckRequest, CniCheckResponse, CniGcRequest, CniGcResponse, CniStatusResponse } from './api.ts';
import type { Attachment } from './attachments.ts';
import type { CniHandlers } from './cni-server.ts';
import { addPod, delPod, find, type Sandboxes } from './cni.ts';

/** ADD is answered within the 10 s that the plugin has, its start on a busy machine included, so that it can pass on what went wrong. */
const ADD_TIMEOUT_MS = 8500;
/** How long CHECK waits for the source's first word, and for a pod under way to arrive. */
const CHECK_TIMEOUT_MS = 4000;

export interface CniOptions extends Sandboxes {
  driver: Pick<RedirectDriver, 'faults'>;
  readiness: () => CniStatusResponse;
  /** addresses of the pod in this netns */
  addressesIn: (netns: string) => string[];
  /** network namespaces that a process is in, as `namespaceId` names them */
  occupied: () => ReadonlySet<string>;
  log: Logger;
}

export function cniHandlers(o: CniOptions): CniHandlers {
  /** container ids whose ADD is under way: nothing runs in their netns yet */
  const joining = new Set<string>();
  return {
    add: async (request) => {
      o.attachments.remember(request);
      joining.add(request.containerId);
      try {
        const ips = request.ips.length > 0 ? request.ips : o.addressesIn(request.netns);
        return await addPod(o.reconciler, { ...request, ips }, ADD_TIMEOUT_MS);
      } finally {
        joining.delete(request.containerId);
      }
    },
    del: (request) => delPod(o, request),
    check: (request) => checkPod(o, request),
    gc: (request) => collectGarbage(o, request, joining),
    status: o.readiness,
  };
}

/**
 * A pod that the source does not have, or that is not to be enrolled, has no faults.
 * @throws CulvertError POD_UNKNOWN while the source has not said anything; NETNS_GONE, SYSTEM when the netns cannot be read
 */
async function checkPod({ reconciler, driver, openNetns }: CniOptions, request: CniCheckRequest): Promise<CniCheckResponse> {
  const end = performance.now() + CHECK_TIMEOUT_MS;
  const started = await reconciler.until(() => (reconciler.started ? true : undefined), CHECK_TIMEOUT_MS);
  if (started === undefined)
    throw new CulvertError(
      'POD_UNKNOWN',
      `check pod ${request.podNamespace}/${request.podName}: the source has not said yet which pods there are`,
    );
  const entry = find(reconciler, request);
  if (entry === undefined) return { enrolled: false, reason: 'the source has no such pod', faults: [] };
  const { pod } = entry;
  // on its way in or out, or being taken up by an agent that has just started: soon it is one or the other
  await reconciler.until(() => (pod.captured || pod.atRest ? true : undefined), end - performance.now());
  if (!entry.decision.enrolled) return { enrolled: false, reason: entry.decision.reason, faults: [] };
  const answer = { enrolled: pod.captured, reason: reason(entry) };
  const { uid, namespace, name, netns, flags } = pod.subject;
  if (!pod.captured || netns === undefined) return { ...answer, faults: [`it is not enrolled: ${answer.reason}`] };
  const asked = openNetns(request.netns);
  asked.close();
  if (asked.cookie !== netns.cookie)
    return { ...answer, faults: [`it is enrolled in network namespace ${netns.path}, not in ${request.netns}`] };
  const target: PodTarget = { uid, namespace, name, netnsFd: netns.fd, netnsCookie: netns.cookie, netnsPath: netns.path, flags };
  return { ...answer, faults: driver.faults(target, request.ips) };
}

/**
 * What the runtime does not have any more, as a DEL would; but a sandbox in which a process lives is left alone: a runtime that
 * forgot it, or a tool that names nothing as valid, must not take it out of the mesh.
 * @throws CulvertError SYSTEM when processes cannot be looked at
 */
async function collectGarbage(o: CniOptions, request: CniGcRequest, joining: ReadonlySet<string>): Promise<CniGcResponse> {
  const valid = new Set(request.valid.map(({ containerId, ifname }) => `${containerId}@${ifname}`));
  const stale = o.attachments
    .inNetwork(request.network)
    .filter(({ containerId, ifname }) => !valid.has(`${containerId}@${ifname}`) && !joining.has(containerId));
  if (stale.length === 0) return { reaped: [], kept: [] };
  const occupied = o.occupied();
  const lives = ({ netns }: Attachment): boolean => {
    const id = namespaceId(netns);
    return id !== undefined && occupied.has(id);
  };
  const { kept = [], reaped = [] } = Object.groupBy(stale, (attachment) => (lives(attachment) ? 'kept' : 'reaped'));
  await Promise.all(reaped.map((attachment) => delPod(o, attachment)));
  const answer = { reaped: reaped.map(label), kept: kept.map(label) };
  o.log.info({ network: request.network, ...answer }, 'garbage of the plugin collected');
  return answer;
}

function label({ podNamespace, podName, containerId }: Attachment): string {
  return `${podNamespace}/${podName} ${containerId}`;
}
