/** What the plugin asks: a pod's sandbox is there, or is gone. */
import { CulvertError } from '../base/errors.ts';
import type { Reconciler } from '../enrol/reconciler.ts';
import type { Entry } from '../enrol/registry.ts';
import type { CniAddRequest, CniAddResponse, CniDelRequest } from './api.ts';

/** Static pods: the kubelet's own uid, which the API server's record of them carries here. */
const CONFIG_HASH = 'kubernetes.io/config.hash';
/** Removing takes this long at most before DEL is answered; it goes on afterwards. */
const DEL_WAIT_MS = 3000;

/**
 * Resolves when the pod is active, or needs nothing.
 * @throws POD_UNKNOWN, NETNS_UNKNOWN, or what the first attempt failed with: the runtime retries, it should not wait for ours
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
  if (!entry.decision.enrolled) return { enrolled: false, reason: entry.decision.reason };

  reconciler.sandbox(entry, { netns: request.netns, ips: request.ips });
  const answer = await reconciler.until((): CniAddResponse | undefined => {
    if (entry.pod.captured) return { enrolled: true, reason: entry.decision.reason };
    if (!entry.decision.enrolled && entry.pod.state === 'out') return { enrolled: false, reason: entry.decision.reason };
    if (entry.pod.state === 'pending') throw entry.pod.error ?? new CulvertError('ENROL_FAILED', `add pod ${pod}: it can not join`);
    if (entry.waitingFor !== undefined) throw new CulvertError('NETNS_UNKNOWN', `add pod ${pod}: ${entry.waitingFor}`);
    return undefined;
  }, end - performance.now());
  if (answer !== undefined) return answer;
  throw new CulvertError(
    'ENROL_FAILED',
    `add pod ${pod}: still ${entry.pod.state} after ${timeoutMs / 1000} s${entry.pod.error === undefined ? '' : `: ${entry.pod.error.message}`}`,
  );
}

/** Always succeeds: a sandbox that is not ours, or a DEL that comes late or twice, leaves everything as it is. */
export async function delPod(reconciler: Reconciler, request: CniDelRequest): Promise<void> {
  const entry = find(reconciler, request);
  if (entry === undefined || entry.pod.state === 'out') return;
  const { netns } = entry.pod.subject;
  if (netns === undefined) return;
  const named =
    request.netns === '' || request.netns === netns.path || request.netns === entry.alias || request.netns === entry.sandbox?.netns;
  if (!named) return; // of a sandbox before this one
  reconciler.sandbox(entry, undefined);
  await reconciler.until(() => (entry.pod.state === 'out' ? true : undefined), DEL_WAIT_MS);
}

/** By name, and it must be the same pod: of a StatefulSet's pod the source may still have the one before. */
function find(reconciler: Reconciler, request: { podNamespace: string; podName: string; podUid: string }): Entry | undefined {
  const entry = reconciler.registry.named(request.podNamespace, request.podName);
  const { podUid } = request;
  if (entry?.record === undefined || podUid === '') return entry;
  return entry.record.uid === podUid || entry.record.annotations[CONFIG_HASH] === podUid ? entry : undefined;
}
