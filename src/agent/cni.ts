/** What the plugin says: a pod's sandbox is there, or is gone. */
import { CulvertError } from '../base/errors.ts';
import type { OpenNetns } from '../enrol/netns.ts';
import type { Reconciler } from '../enrol/reconciler.ts';
import type { Entry } from '../enrol/registry.ts';
import { holderOf } from '../enrol/sandbox.ts';
import { CONFIG_HASH_ANNOTATION } from '../sources/source.ts';
import type { CniAddRequest, CniAddResponse, CniDelRequest } from './api.ts';
import type { Attachments } from './attachments.ts';

/** What it takes to know which pod a sandbox belongs to. */
export interface Sandboxes {
  reconciler: Reconciler;
  attachments: Attachments;
  openNetns: OpenNetns;
}

/** Removing takes this long at most before DEL is answered; it goes on afterwards. */
const DEL_WAIT_MS = 3000;

/**
 * Resolves when the pod is active, or needs nothing.
 * @throws POD_UNKNOWN, NETNS_UNKNOWN, CNI_INPUT, or what the first attempt failed with: the runtime retries, it should not wait for ours
 */
export async function addPod(reconciler: Reconciler, request: CniAddRequest, timeoutMs: number): Promise<CniAddResponse> {
  const pod = `${request.podNamespace}/${request.podName}`;
  const end = performance.now() + timeoutMs;
  // the runtime may be faster than the watch
  const entry = await reconciler.until(() => find(reconciler, request), timeoutMs);
  if (entry === undefined)
    throw new CulvertError(
      'POD_UNKNOWN',
      `add pod ${pod}: the source has no such pod${request.podUid === '' ? '' : ` with uid ${request.podUid}`}`,
    );
  reconciler.sandbox(entry, { netns: request.netns, ips: request.ips }); // also of a pod that may be wanted later only
  if (!entry.decision.enrolled) return { enrolled: false, reason: entry.decision.reason };

  const answer = await reconciler.until((): CniAddResponse | undefined => {
    if (entry.record === undefined) throw new CulvertError('POD_UNKNOWN', `add pod ${pod}: it was deleted meanwhile`);
    if (entry.pod.captured) return { enrolled: true, reason: entry.decision.reason };
    if (!entry.decision.enrolled && entry.pod.state === 'out') return { enrolled: false, reason: entry.decision.reason };
    if (entry.pod.state === 'pending') throw entry.pod.error ?? new CulvertError('ENROL_FAILED', `add pod ${pod}: it can not join`);
    if (entry.waitingFor !== undefined) throw cannotBeFound(request, pod, entry.waitingFor);
    return undefined;
  }, end - performance.now());
  if (answer !== undefined) return answer;
  throw new CulvertError(
    'ENROL_FAILED',
    `add pod ${pod}: still ${entry.pod.state} after ${timeoutMs / 1000} s${entry.pod.error === undefined ? '' : `: ${entry.pod.error.message}`}`,
  );
}

/** Without any address there is no other plugin before ours: trying again would not help. */
function cannotBeFound({ ips }: CniAddRequest, pod: string, why: string): CulvertError {
  if (ips.length > 0) return new CulvertError('NETNS_UNKNOWN', `add pod ${pod}: ${why}`);
  const remedy = 'put culvert-cni behind the plugin that makes its interface';
  return new CulvertError('CNI_INPUT', `add pod ${pod}: ${why}: neither prevResult nor its network namespace has one; ${remedy}`);
}

/**
 * Always succeeds, and works from the container id alone. A sandbox that is not ours, a DEL that comes late or twice, and one without
 * netns whose ADD nobody remembers leave everything as it is: the pod may have another sandbox by now.
 */
export async function delPod({ reconciler, attachments, openNetns }: Sandboxes, request: CniDelRequest): Promise<void> {
  const known = attachments.of(request.containerId, request.ifname);
  for (const attachment of known) attachments.forget(attachment);
  const [first] = known;
  const netns = first?.netns ?? request.netns;
  if (netns === '' || attachments.inNetns(netns).length > 0) return; // nothing to go by; or another container has it now
  const entry = holderOf(reconciler.registry.all(), netns, openNetns);
  if (entry === undefined || !isPod(entry, first?.podUid ?? request.podUid)) return;
  reconciler.sandbox(entry, undefined);
  await reconciler.until(() => (entry.pod.state === 'out' ? true : undefined), DEL_WAIT_MS);
}

/** By name, and it must be the same pod: of a StatefulSet's pod the source may still have the one before. */
export function find(reconciler: Reconciler, request: { podNamespace: string; podName: string; podUid: string }): Entry | undefined {
  const entry = reconciler.registry.named(request.podNamespace, request.podName);
  return entry !== undefined && isPod(entry, request.podUid) ? entry : undefined;
}

/** @param uid as the runtime says it; "" when it does not */
function isPod({ record }: Entry, uid: string): boolean {
  return record === undefined || uid === '' || record.uid === uid || record.annotations[CONFIG_HASH_ANNOTATION] === uid;
}
