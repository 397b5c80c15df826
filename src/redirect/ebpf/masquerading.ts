/**
 * Node traffic that is masqueraded on its way to a pod: then the exact tuple that is exempt is not the one that arrives, and kubelet's
 * probes take the tunnel, where a policy that requires identity refuses them. Found by a trial connection to each pod; for such a
 * pod the node's address is exempt instead of its tuples. That is wider (what others send through the node with that source passes,
 * too), so it is done for no other pod, only with an address that is the node's, not where only kubelet is exempt, and it is told.
 */
import { describe } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { podFlag, type Maps } from '../../maps/index.ts';
import type { Netns } from '../../sys/netns.ts';
import { canonical } from './pod-entries.ts';
import { tryPod, type Trial } from './trial.ts';

export interface MasqueradingOptions {
  maps: Pick<Maps, 'pods' | 'trials' | 'nodeSources'>;
  /** the node's netns */
  node: Netns;
  /** only kubelet is exempt: an address would exempt everybody */
  kubeletOnly: boolean;
  /** the node's connections may arrive with Istio's probe address: its host rule is there, and the address passes */
  isIstioProbe: (address: string) => boolean;
  log: Logger;
}

/** A pod's address to which the node's connections do not arrive as they were sent. */
interface Rewritten extends Trial {
  address: string;
  /** the source is an address of the node */
  ofNode: boolean;
}

export class Masquerading {
  readonly #o: MasqueradingOptions;
  readonly #found = new Map<bigint, Rewritten[]>();
  readonly #running = new Map<bigint, Promise<void>>();
  #closed = false;

  /** Trials of an earlier run are over, whoever started them. */
  constructor(options: MasqueradingOptions) {
    this.#o = options;
    options.maps.trials.deleteWhere(() => true);
  }

  /**
   * Tries every address and brings the pod's exemption to what was found; where nothing arrived, what was found before stays. Never
   * throws. While one runs for a pod, a second call waits for it.
   * @param addresses of the pod, as the maps write them
   */
  check(cookie: bigint, addresses: readonly string[]): Promise<void> {
    const running =
      this.#running.get(cookie) ??
      this.#check(cookie, addresses)
        .catch((error: unknown) => {
          this.#o.log.warn({ cookie: String(cookie), error: describe(error) }, 'node traffic to a pod not tried for masquerading');
        })
        .finally(() => this.#running.delete(cookie));
    this.#running.set(cookie, running);
    return running;
  }

  /** One sentence per address of the pod. */
  warnings(cookie: bigint): string[] {
    return (this.#found.get(cookie) ?? []).map((each) => this.#sentence(each));
  }

  forget(cookie: bigint): void {
    this.#found.delete(cookie);
  }

  /** The maps are not touched any more. */
  close(): void {
    this.#closed = true;
  }

  async #check(cookie: bigint, addresses: readonly string[]): Promise<void> {
    const before = this.#found.get(cookie) ?? [];
    const found: Rewritten[] = [];
    const silent: string[] = [];
    for (const address of addresses) {
      const result = await this.#try(cookie, address);
      if (this.#closed) return;
      if (result === 'silent') {
        silent.push(address);
        found.push(...before.filter((each) => each.address === address));
      } else if (result !== 'as sent') {
        found.push(result);
      }
    }
    if (this.#o.maps.pods.get(cookie) === undefined) return; // it has left meanwhile
    this.#apply(cookie, found, silent);
  }

  /** A source that is not ours must show twice: a rule that was being changed meanwhile says nothing. */
  async #try(cookie: bigint, address: string): Promise<Rewritten | 'as sent' | 'silent'> {
    let last: string | undefined;
    for (;;) {
      const trial = await tryPod(this.#o.maps, this.#o.node.fd, cookie, address, () => this.#closed);
      if (trial === undefined) return 'silent';
      const { sent, arrived } = trial;
      const sameAddress = canonical(sent.address) === arrived.address;
      if ((sameAddress && sent.port === arrived.port) || this.#o.isIstioProbe(arrived.address)) return 'as sent';
      if (last === arrived.address) return { ...trial, address, ofNode: sameAddress || this.#isOfNode(arrived.address) };
      if (last !== undefined) return 'silent'; // each time another
      last = arrived.address;
    }
  }

  #isOfNode(address: string): boolean {
    return this.#o.node.run({ op: 'addresses' }).some((each) => canonical(each.address) === address);
  }

  /** @param silent addresses of which nothing is known now: what is written for their family, also by an earlier run, stays */
  #apply(cookie: bigint, found: Rewritten[], silent: readonly string[]): void {
    const { maps, kubeletOnly, log } = this.#o;
    const wanted = new Set(kubeletOnly ? [] : found.filter((each) => each.ofNode).map((each) => each.arrived.address));
    const present = maps.nodeSources.keys().filter((key) => key.cookie === cookie);
    for (const { addr } of present) if (!kubeletOnly && silent.some((address) => isIpv6(address) === isIpv6(addr))) wanted.add(addr);
    this.#found.set(cookie, found);
    for (const key of present) if (!wanted.has(key.addr)) maps.nodeSources.delete(key);
    for (const addr of wanted) maps.nodeSources.set({ cookie, addr }, 1);
    const pod = maps.pods.get(cookie);
    const flag = podFlag.POD_NODE_SOURCE;
    const flags = wanted.size > 0 ? (pod?.flags ?? 0) | flag : (pod?.flags ?? 0) & ~flag;
    if (pod === undefined || pod.flags === flags) return;
    maps.pods.set(cookie, { ...pod, flags });
    log.info(
      { cookie: String(cookie), sources: [...wanted] },
      'exemption of node traffic by address changed: it is masqueraded, or no longer',
    );
  }

  #sentence({ address, sent, arrived, ofNode }: Rewritten): string {
    const what =
      canonical(sent.address) === arrived.address
        ? `connections of the node to ${address} arrive with another source port (masquerading with random ports)`
        : `connections of the node to ${address} arrive with source ${arrived.address} instead of ${canonical(sent.address)} (masquerading)`;
    const remedy = 'leave the addresses of pods out of the rule that masquerades node traffic';
    if (this.#o.kubeletOnly) return `${what}: kubelet's cannot be told from others, its probes take the tunnel; ${remedy}`;
    if (!ofNode) return `${what}, which is no address of this node: probes take the tunnel; ${remedy}`;
    return `${what}: everything from ${arrived.address} passes the tunnel by, not only the node's own connections; ${remedy}`;
  }
}

function isIpv6(address: string): boolean {
  return address.includes(':');
}
