/**
 * A pod's way into the mesh and out of it, as one table: state × event → state and the actions to run, in order.
 * Pure. An event that a row does not name changes nothing, so duplicates from plugin, watch and retry do no harm.
 *
 * Actions run one list at a time, in order; their end is an event again. A transition that carries actions replaces the list
 * that is running: what runs is ended first (a grace is cut short, anything else is awaited) and its outcome no longer counts.
 */
import type { DatapathState } from '../redirect/driver.ts';

export const POD_STATES = [
  'out',
  'preparing',
  'joining',
  'announcing',
  'enrolled',
  'undoing',
  'pending',
  'adopting',
  'draining',
  'removing',
] as const;
export type PodState = (typeof POD_STATES)[number];

/** The states in which nothing is under way and nothing will happen without an event from outside. */
export const AT_REST: ReadonlySet<PodState> = new Set<PodState>(['out', 'enrolled', 'pending']);

export const POD_EVENTS = [
  // from outside
  'wanted', // label on
  'unwanted', // label off, or the phase became terminal
  'deleted', // the pod is gone from the source
  'netnsGone', // its netns is gone, or was replaced
  'retry', // the back-off of a failure is over
  'tunnelGone', // no tunnel is connected any more
  'overwritten', // somebody else changed the annotation
  'moved', // another driver is to serve it
  // outcomes of the actions
  'prepared',
  'acked',
  'failed',
  'announced',
  'undone',
  'adopted',
  'drained',
  'removed',
] as const;
export type PodEvent = (typeof POD_EVENTS)[number];

export type Action =
  | 'prepare' // driver: exemption, own addresses, rules, routes, sysctls, link; state prepared
  | 'zdsAdd' // the tunnel opens its listeners in the netns, and says so
  | 'activate' // the commit: one map write
  | 'annotateEnabled' // peers may send HBONE: last of all
  | 'annotatePending' // says that it was tried; never fails
  | 'annotateOff' // peers send plaintext from now on
  | 'reconcile' // after a restart: repair what is missing, touch nothing live
  | 'drain' // one map write: new connections direct, captured ones go on
  | 'grace' // until no new connection arrives on 15008
  | 'zdsDel' // the tunnel ends what it still carries
  | 'remove'; // driver: everything off

export interface Transition {
  state: PodState;
  actions: readonly Action[];
  /** what the list's success is; its failure is always `failed` */
  outcome?: PodEvent;
}

const IN: Transition = { state: 'preparing', actions: ['prepare'], outcome: 'prepared' };
const JOIN: Transition = { state: 'joining', actions: ['zdsAdd'], outcome: 'acked' };
const ANNOUNCE: Transition = { state: 'announcing', actions: ['activate', 'annotateEnabled'], outcome: 'announced' };
const ENROLLED: Transition = { state: 'enrolled', actions: [] };
/** `drain` first: a pod called back while it was leaving may still be active here. */
const UNDO: Transition = { state: 'undoing', actions: ['drain', 'zdsDel', 'remove', 'annotatePending'], outcome: 'undone' };
const PENDING: Transition = { state: 'pending', actions: [] };
const ADOPT: Transition = { state: 'adopting', actions: ['reconcile'], outcome: 'adopted' };
/** A pod that lives on: peers learn from the annotation that it leaves, and those still on their way are served. */
const LEAVE: Transition = { state: 'draining', actions: ['drain', 'annotateOff', 'grace'], outcome: 'drained' };
/** Nobody is left to be graceful to, or nothing was ever captured. `drain` stays: the tunnel must never end what is still captured. */
const OUT: Transition = { state: 'removing', actions: ['drain', 'annotateOff', 'zdsDel', 'remove'], outcome: 'removed' };
const REMOVE: Transition = { state: 'removing', actions: ['zdsDel', 'remove'], outcome: 'removed' };
const GONE: Transition = { state: 'out', actions: [] };

const ANNOTATE: Transition = { ...ANNOUNCE, actions: ['annotateEnabled'] };
const UNANNOTATE: Transition = { ...OUT, actions: ['annotateOff'] };

const OUT_AT_ONCE = { unwanted: OUT, deleted: OUT, netnsGone: OUT } as const;
const LEAVING = { unwanted: LEAVE, deleted: OUT, netnsGone: OUT } as const;

const TABLE: Record<PodState, Partial<Record<PodEvent, Transition>>> = {
  out: { wanted: IN, overwritten: UNANNOTATE },
  preparing: { prepared: JOIN, failed: UNDO, ...OUT_AT_ONCE },
  joining: { acked: ANNOUNCE, failed: UNDO, tunnelGone: UNDO, retry: JOIN, ...OUT_AT_ONCE },
  // captured from `activate` on: a failure here is the annotation's, and the pod works meanwhile (peers send plaintext)
  announcing: { announced: ENROLLED, retry: ANNOUNCE, ...LEAVING },
  // a tunnel that goes away leaves it enrolled: refused and counted, never plain
  enrolled: { ...LEAVING, overwritten: ANNOTATE, moved: ADOPT },
  undoing: { undone: PENDING, retry: UNDO, ...OUT_AT_ONCE },
  pending: { retry: IN, ...OUT_AT_ONCE },
  adopting: { adopted: ANNOTATE, retry: ADOPT, ...LEAVING },
  draining: { drained: REMOVE, retry: LEAVE, wanted: JOIN, deleted: OUT, netnsGone: OUT },
  // nothing turns it round: it ends in `out`, and whoever is still wanted starts anew from there
  removing: { removed: GONE, retry: OUT },
};

export function transition(state: PodState, event: PodEvent): Transition | undefined {
  return TABLE[state][event];
}

/**
 * Where a pod stands when the agent starts, by what the kernel holds of it and by what it should be now.
 * @param annotated it carries the annotation of an earlier life, which must not outlive the redirect
 */
export function afterRestart(datapath: DatapathState, wanted: boolean, annotated: boolean): Transition {
  switch (datapath) {
    case 'none':
      if (wanted) return IN;
      return annotated ? OUT : GONE;
    case 'prepared': // it was joining: no ack is known, so it starts again
      return wanted ? IN : OUT;
    case 'active':
      return wanted ? ADOPT : LEAVE;
    case 'draining': // back in through the tunnel's ack, like any other
      return wanted ? { ...JOIN, actions: ['reconcile', 'zdsAdd'] } : LEAVE;
  }
}
