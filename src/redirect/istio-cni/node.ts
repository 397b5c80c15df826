/**
 * What istio-cni left on the node itself, taken off when nobody needs it: no pod of the node has Istio's rules any more, and no
 * istio-cni serves here. First the rule, so that new probes keep the node's address; when those have ended that it translated, what
 * it hung on: a base chain of nat that goes may end translation itself, and a set cannot go before its rule. Nothing else of the node's
 * is named in what is run. Every look begins anew: what was refused is tried again with the next.
 *
 * Rules of routing policy for branch interfaces of AWS stay: netlink's answer, as we read it, does not say for whom they are, and a driver
 * that gives probes Istio's address needs them.
 */
import { existsSync, mkdirSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CulvertError, describe, isSystem } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { Netns } from '../../sys/netns.ts';
import { demand, run, type Place } from '../netfilter/command.ts';
import { clearNodeRules, deleteTables } from './clear.ts';
import { anyRules, expectsProbeAddress, openProbes, PROBE_SETS, readNodeTraces } from './node-traces.ts';

export interface IstioOnNodeOptions {
  /** the node's netns, by path */
  nodeNetns: string;
  /** how long probes under way may go on; ms */
  deadlineMs: number;
  log: Logger;
  /** that the node's own users of legacy iptables ask for */
  lockFile: string;
  /** paths of istio-cni's socket, as this process sees it */
  sockets: readonly string[];
  /** paths of netns of the node: pods may be among them that are not ours */
  others: () => Iterable<string>;
  /** between two looks whether probes have ended; ms, default 200 */
  pollMs?: number;
}

export class IstioOnNode {
  readonly #o: IstioOnNodeOptions;
  readonly #stop = new AbortController();
  #looking: Promise<boolean> | undefined;
  #rest: Promise<void> | undefined;
  /** sets that no rule uses cannot be told from none without asking ipset, which is done once, or while some are known to be left */
  #askForSets = existsSync('/sys/module/ip_set');
  #warning: string | undefined;

  constructor(options: IstioOnNodeOptions) {
    this.#o = options;
  }

  /** Why something of istio-cni's is still there; undefined: nothing is, or it is on its way. */
  get warning(): string | undefined {
    return this.#warning;
  }

  /**
   * Never throws: a refusal is a warning.
   * @param pods netns that are ours, asked for anew after each pause
   * @param say that pods of others need the rule; at the start of an agent they may be ours in a moment
   * @returns true when probes were translated until now, and are not any more
   */
  async clear(pods: () => readonly Netns[], say: boolean): Promise<boolean> {
    while (this.#looking !== undefined) {
      await this.#looking.catch(() => undefined); // who began it says why
      if (!say) return false;
    }
    try {
      return await (this.#looking = this.#clear(pods, say));
    } catch (error) {
      this.#warn(`what istio-cni left on the node was not taken off: ${describe(error)}`);
      return false;
    } finally {
      this.#looking = undefined;
    }
  }

  /** When nothing is on its way any more. */
  async settled(): Promise<void> {
    await this.#rest;
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#rest;
  }

  async #clear(pods: () => readonly Netns[], say: boolean): Promise<boolean> {
    if (this.#rest !== undefined) return false;
    using node = Netns.open(this.#o.nodeNetns);
    const traces = readNodeTraces(node);
    const { iptables, nftables } = traces;
    const place = this.#placeOf(node);
    const ruled = anyRules(traces);
    if (!ruled && nftables.tables.length === 0 && !(this.#askForSets && (await setsIn(place, false)).length > 0)) {
      this.#askForSets = false;
      this.#warning = undefined;
      return false;
    }
    this.#askForSets ||= iptables.length > 0;
    if (pods().some(expectsProbeAddress)) return false; // what keeps theirs there is said at each
    const keeps = await this.#whoNeedsThem(node);
    if (keeps !== undefined) {
      if (say) this.#warn(`istio-cni's rule for probes is still on the node, and stays: ${keeps}`);
      return false;
    }
    if (pods().some(expectsProbeAddress)) return false;
    if (ruled) {
      mkdirSync(dirname(this.#o.lockFile), { recursive: true });
      await clearNodeRules(place, traces);
      this.#o.log.info(traces, "istio-cni's rule for probes is taken off the node");
    }
    this.#warning = undefined;
    const kept = pods().map((pod) => Netns.open(`/proc/self/fd/${pod.fd}`));
    this.#rest = this.#clearRest(kept).finally(() => (this.#rest = undefined));
    return ruled;
  }

  async #clearRest(pods: readonly Netns[]): Promise<void> {
    const { deadlineMs, pollMs = 200, log, nodeNetns } = this.#o;
    try {
      using node = Netns.open(nodeNetns);
      // the kernel lets go of a set some time after its rule
      const used = (): boolean =>
        pods.some((pod) => openProbes(pod) > 0) || PROBE_SETS.some((name) => node.run({ op: 'ipset-references', name }) > 0);
      const end = performance.now() + deadlineMs;
      while (used() && performance.now() < end) await sleep(pollMs, undefined, { signal: this.#stop.signal });
      const place = this.#placeOf(node);
      await deleteTables(place, readNodeTraces(node).nftables.tables);
      const sets = this.#askForSets ? await setsIn(place, true) : [];
      for (const set of sets) {
        const argv = ['ipset', 'destroy', set];
        demand(argv, await run(place, argv));
      }
      this.#askForSets = false;
      log.info({ sets }, 'nothing of istio-cni is left on the node');
    } catch (error) {
      if (!this.#stop.signal.aborted) this.#warn(`what istio-cni left on the node was not taken off: ${describe(error)}`);
    } finally {
      for (const pod of pods) pod.close();
    }
  }

  async #whoNeedsThem(node: Netns): Promise<string | undefined> {
    for (const path of this.#o.sockets)
      if (await answers(path)) return 'istio-cni serves this node, too, and two agents fight: uninstall one of them';
    for (const path of this.#o.others()) {
      try {
        using netns = Netns.open(path);
        if (netns.identity !== node.identity && expectsProbeAddress(netns))
          return `a pod that is not ours has istio-cni's rules (${path}): label it, or restart it`;
      } catch (error) {
        if (existsSync(path)) throw error; // else it ended meanwhile
      }
    }
    return undefined;
  }

  #placeOf(node: Netns): Place {
    return { netnsFd: node.fd, env: { XTABLES_LOCKFILE: this.#o.lockFile } };
  }

  #warn(text: string): void {
    if (this.#warning === text) return;
    this.#warning = text;
    this.#o.log.warn(text);
  }
}

/** @param known that there are some: then it must be possible to see them */
async function setsIn(place: Place, known: boolean): Promise<string[]> {
  const argv = ['ipset', 'list', '-name'];
  const found = await run(place, argv);
  if (found.code === 127 && !known) return [];
  if (found.code === 127) throw new CulvertError('SYSTEM', 'run ipset: it is not there', undefined, { retryable: false });
  return demand(argv, found)
    .split('\n')
    .filter((name) => PROBE_SETS.includes(name));
}

/** The socket is seen through the node's first process. */
function hint(error: unknown): string {
  return isSystem(error, 'EACCES') ? ' (which takes SYS_PTRACE, as the chart grants it, and a security module that lets it)' : '';
}

/** @throws when it cannot be seen whether somebody serves it */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error) => {
      if (['ENOENT', 'ENOTDIR', 'ECONNREFUSED'].some((code) => isSystem(error, code))) resolve(false);
      else reject(new CulvertError('SYSTEM', `see whether istio-cni still serves it, by ${path}${hint(error)}`, error));
    });
  });
}
