/**
 * Taking over pods that istio-cni redirected. Its rules stay until ours serve the pod: meanwhile each connection meets one redirect, as
 * what we mark or rewrite Istio's rules let pass, and what they send to 15006 our hook hands to that listener. Then what captures goes,
 * one transaction per table, and what open connections need goes when the last of them has ended, or after a deadline. The rule for
 * mark 0x111 and its route are the same as ours and stay.
 *
 * Rules that come back are somebody else's doing (istio-cni still runs): said at the pod, and taken off again after a long pause only.
 */
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { Netns } from '../../sys/netns.ts';
import type { PodTarget } from '../driver.ts';
import type { Place } from '../netfilter/command.ts';
import { spareOpenStreams } from '../open-streams.ts';
import { clearCapture, clearRest, dropEmptyTables } from './clear.ts';
import { shelter, unshelter } from './shelter.ts';
import type { IstioOnNode } from './node.ts';
import { captures, isClean, kindsOf, readTraces, type Traces } from './traces.ts';
import { translatedConnections } from './translated.ts';

export { IstioOnNode } from './node.ts';
export { netnsOfProcesses } from './others.ts';
export { captures, readTraces } from './traces.ts';

/** For taking our redirect off a node that istio-cni serves again. */
export const istioAsHeir = { serves: (netns: Netns): boolean => captures(readTraces(netns)) };

export interface IstioRulesOptions {
  /** nothing is taken off: istio-cni is to have the node back */
  keep: boolean;
  /** how long translated connections may go on; ms */
  deadlineMs: number;
  log: Logger;
  /** the lock that legacy iptables asks for; its directory is made */
  lockFile: string;
  /** what it left on the node itself; undefined: nobody looks */
  node?: IstioOnNode;
  /** between two looks at them; ms, default 500 */
  pollMs?: number;
  /** before rules that came back are taken off again; ms, default ten minutes */
  againMs?: number;
}

interface Pod {
  readonly netns: Netns;
  readonly name: string;
  /** its rules were there when we met it */
  found: boolean;
  /** our redirect, or none, is to serve it: Istio's rules are taken off */
  released: boolean;
  /** taken off once already */
  cleared: number | undefined;
  cameBack: boolean;
  fault: string | undefined;
  /** captures off; the rest may still be on its way */
  clearing: Promise<void> | undefined;
}

export class IstioRules {
  readonly #o: IstioRulesOptions;
  readonly #pods = new Map<bigint, Pod>();
  readonly #stop = new AbortController();
  readonly #rest = new Set<Promise<void>>();
  readonly #listeners = new Set<(cookie: bigint) => void>();
  readonly #nodeListeners = new Set<() => void>();

  constructor(options: IstioRulesOptions) {
    this.#o = options;
  }

  /** From now on known. @returns whether Istio's rules are in its netns */
  meet({ netnsCookie, netnsFd, namespace, name }: PodTarget): boolean {
    let pod = this.#pods.get(netnsCookie);
    if (pod === undefined) {
      const netns = Netns.open(`/proc/self/fd/${netnsFd}`);
      pod = {
        netns,
        name: `${namespace}/${name}`,
        found: false,
        released: false,
        cleared: undefined,
        cameBack: false,
        fault: undefined,
        clearing: undefined,
      };
      this.#pods.set(netnsCookie, pod);
    }
    if (this.#o.keep) shelter(pod.netns);
    pod.found = !isClean(readTraces(pod.netns));
    // its rules are to come, or may come back, while connections are open that they know nothing of
    if (this.#o.keep || pod.found) spareOpenStreams(pod.netns);
    return pod.found;
  }

  /** True while they capture its connections. */
  capture(cookie: bigint): boolean {
    const pod = this.#pods.get(cookie);
    return pod !== undefined && captures(readTraces(pod.netns));
  }

  /** Our redirect serves it, or none shall. Resolves when Istio's rules capture nothing more. Never throws: a fault is a warning. */
  async release(cookie: bigint): Promise<void> {
    const pod = this.#pods.get(cookie);
    if (pod === undefined || this.#o.keep) return;
    if (!pod.released) unshelter(pod.netns); // an agent before may have kept them; by now the route is ours again
    pod.released = true;
    if (!pod.found) return;
    await (pod.clearing ??= this.#clear(cookie, pod).finally(() => (pod.clearing = undefined)));
    if (pod.cleared !== undefined) void this.#clearNode(false); // that is nobody's to wait for
  }

  /** Of a pod that left, or whose netns is gone. */
  forget(cookie: bigint): void {
    const pod = this.#pods.get(cookie);
    if (pod !== undefined) unshelter(pod.netns);
    this.#drop(cookie);
  }

  /** For a slow tick: rules that came, or came back. Never throws. */
  async recheck(): Promise<void> {
    const { againMs = 600_000, keep } = this.#o;
    if (keep) return;
    for (const [cookie, pod] of [...this.#pods]) {
      // one that was forgotten meanwhile has no descriptor any more
      if (this.#pods.get(cookie) !== pod || !pod.released || pod.clearing !== undefined) continue;
      try {
        const back = captures(readTraces(pod.netns));
        pod.found ||= back;
        if (back !== pod.cameBack) {
          pod.cameBack = back && pod.cleared !== undefined;
          this.#tell(cookie);
        }
        if (back && (pod.cleared === undefined || performance.now() - pod.cleared > againMs)) await this.release(cookie);
      } catch (error) {
        this.#failed(cookie, pod, error);
      }
    }
    await this.#clearNode(true);
  }

  /** What of istio-cni's is on the node itself and is not taken off, one sentence each with its remedy. */
  nodeWarnings(): string[] {
    const warning = this.#o.node?.warning;
    return warning === undefined ? [] : [warning];
  }

  /** The node's connections to pods have another source from now on. */
  onNodeCleared(listener: () => void): void {
    this.#nodeListeners.add(listener);
  }

  warnings(cookie: bigint): string[] {
    const pod = this.#pods.get(cookie);
    if (pod === undefined) return []; // kept rules are no trouble: who set that knows
    return [
      ...(pod.fault === undefined ? [] : [`istio-cni's rules in its network namespace were not taken off: ${pod.fault}`]),
      ...(pod.cameBack
        ? [
            "istio-cni's rules were put back after they had been taken off: it still runs on this node, and two agents fight; " +
              'uninstall it, or set istioRules=keep to hand the node back to it',
          ]
        : []),
    ];
  }

  onWarnings(listener: (cookie: bigint) => void): { close(): void } {
    this.#listeners.add(listener);
    return { close: () => this.#listeners.delete(listener) };
  }

  /** What is not taken off yet stays: the next agent finds it. */
  async close(): Promise<void> {
    this.#stop.abort();
    await Promise.all([...this.#rest, this.#o.node?.close()]);
    for (const cookie of [...this.#pods.keys()]) this.#drop(cookie);
  }

  async #clearNode(say: boolean): Promise<void> {
    const pods = (): Netns[] => [...this.#pods.values()].map(({ netns }) => netns);
    if (await this.#o.node?.clear(pods, say)) for (const listener of this.#nodeListeners) listener();
  }

  #drop(cookie: bigint): void {
    this.#pods.get(cookie)?.netns.close();
    this.#pods.delete(cookie);
  }

  /** Own descriptor: the pod may be forgotten meanwhile, and its number be another pod's. */
  async #clear(cookie: bigint, pod: Pod): Promise<void> {
    try {
      using netns = Netns.open(`/proc/self/fd/${pod.netns.fd}`);
      const traces = readTraces(netns);
      if (isClean(traces)) return;
      await clearCapture(this.#placeOf(netns), traces);
      pod.cleared = performance.now();
      pod.fault = undefined;
      this.#o.log.info({ pod: pod.name, rules: kindsOf(traces) }, 'taken over from istio-cni: its rules capture nothing any more');
      const rest = this.#clearRest(pod.name, netns, traces)
        .catch((error: unknown) => this.#failed(cookie, pod, error))
        .finally(() => this.#rest.delete(rest));
      this.#rest.add(rest);
    } catch (error) {
      this.#failed(cookie, pod, error);
    }
  }

  /** Own descriptor as well: nobody waits for it. */
  async #clearRest(pod: string, { fd }: Netns, traces: Traces): Promise<void> {
    const { deadlineMs, pollMs = 500, log } = this.#o;
    const netns = Netns.open(`/proc/self/fd/${fd}`);
    try {
      const end = performance.now() + deadlineMs;
      while (translatedConnections(netns) > 0 && performance.now() < end) await sleep(pollMs, undefined, { signal: this.#stop.signal });
      const left = translatedConnections(netns);
      await clearRest(this.#placeOf(netns), readTraces(netns));
      const families = traces.iptables.filter(({ variant }) => variant === 'nft').map(({ family }) => family);
      await dropEmptyTables(this.#placeOf(netns), families);
      log.info({ pod, cut: left }, "istio-cni's rules are gone from a pod");
    } catch (error) {
      if (!this.#stop.signal.aborted) throw error;
    } finally {
      netns.close();
    }
  }

  #placeOf(netns: Netns): Place {
    const { lockFile } = this.#o;
    mkdirSync(dirname(lockFile), { recursive: true });
    return { netnsFd: netns.fd, env: { XTABLES_LOCKFILE: lockFile } };
  }

  #failed(cookie: bigint, pod: Pod, error: unknown): void {
    const fault = describe(error);
    if (pod.fault === fault) return;
    pod.fault = fault;
    this.#o.log.warn({ pod: pod.name, error: fault }, "istio-cni's rules not taken off");
    this.#tell(cookie);
  }

  #tell(cookie: bigint): void {
    for (const listener of this.#listeners) listener(cookie);
  }
}
