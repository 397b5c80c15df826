/** The condition that Istio's users look for on a policy, and the Event where its kind keeps no status. */
import { hash } from 'node:crypto';
import type { KubeObject } from '../../kubernetes/api.ts';
import type { PolicyRef, Verdict } from './report.ts';

const TYPE = 'ZtunnelAccepted';
const COMPONENT = 'culvert-control';

interface Condition {
  type: string;
  status: string;
  reason: string;
  message: string;
  /** Istio's own types are protobuf, whose JSON has 64-bit numbers as text */
  observedGeneration: number | string;
  lastTransitionTime: string;
}

/**
 * The conditions that the object should have: everybody else's, and ours.
 * @returns undefined when they are there already
 */
export function conditionsWith(
  verdict: Verdict,
  { object, generation, now }: { object: KubeObject; generation: number; now: Date },
): unknown[] | undefined {
  const there = conditionsOf(object);
  const before = there.find(isOurs);
  const status = verdict.sent && verdict.reason !== 'Invalid' ? 'True' : 'False';
  const { reason, message } = verdict;
  const same = before !== undefined && before.status === status;
  if (same && before.reason === reason && before.message === message && Number(before.observedGeneration) === generation) return undefined;
  const lastTransitionTime = same ? before.lastTransitionTime : now.toISOString().replace(/\.\d+Z$/, 'Z');
  const ours: Condition = { type: TYPE, status, reason, message, observedGeneration: generation, lastTransitionTime };
  return [...there.filter((each) => !isOurs(each)), ours];
}

function conditionsOf({ status }: KubeObject): unknown[] {
  const conditions = typeof status === 'object' && status !== null && 'conditions' in status ? status.conditions : undefined;
  return Array.isArray(conditions) ? (conditions as unknown[]) : [];
}

function isOurs(condition: unknown): condition is Condition {
  return typeof condition === 'object' && condition !== null && 'type' in condition && condition.type === TYPE;
}

/** Its name is made of what it says, so that saying it again is refused as a conflict and not an Event more. */
export function eventOf(
  policy: PolicyRef,
  { reason, message }: Verdict,
  { apiVersion, now }: { apiVersion: string; now: Date },
): KubeObject {
  const { kind, namespace, name, uid, generation } = policy;
  const digest = hash('sha256', JSON.stringify([kind, uid, generation, reason, message]), 'hex').slice(0, 16);
  const time = now.toISOString().replace(/\.\d+Z$/, 'Z');
  return {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { name: `${name.slice(0, 200).replace(/[^a-z0-9]+$/, '')}.${digest}`, namespace },
    involvedObject: { apiVersion, kind, namespace, name, uid },
    type: 'Warning',
    reason,
    message,
    source: { component: COMPONENT },
    reportingComponent: COMPONENT,
    reportingInstance: '',
    firstTimestamp: time,
    lastTimestamp: time,
    count: 1,
  };
}
