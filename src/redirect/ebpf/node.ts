/** What the datapath takes from the node and must follow while the agent lives: kubelet's cgroups, Istio's host rule. */
import { describe } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { enums, type Maps } from '../../maps/index.ts';
import { Netns } from '../../sys/netns.ts';
import { istioHostRule } from './istio-probes.ts';
import type { KubeletCgroups } from './kubelet.ts';
import type { Settings } from './settings.ts';

export interface NodeOptions {
  /** undefined: every process of the node is exempt */
  kubelet: KubeletCgroups | undefined;
  /** path of the node's netns */
  nodeNetns: string;
  settings: Settings;
  maps: Pick<Maps, 'kubelets'>;
  log: Logger;
}

export class Node {
  readonly netns: Netns;
  readonly #o: NodeOptions;
  /** by what could not be followed */
  readonly #faults = new Map<string, string>();

  /** @throws CulvertError NETNS_GONE, SYSTEM */
  constructor(o: NodeOptions) {
    this.#o = o;
    this.netns = Netns.open(o.nodeNetns);
    this.refresh();
  }

  /** What cannot be followed now, one sentence each. */
  get faults(): string[] {
    return [...this.#faults.values()];
  }

  /** Never throws: what cannot be read is a fault, and what was known of it stays in force. */
  refresh(): void {
    const { kubelet, maps, settings, log } = this.#o;
    this.#follow('kubelet', () => {
      if (kubelet?.refresh(maps) === true) log.info("kubelet's cgroup is another one now; its connections are exempt");
    });
    this.#follow('istio', () => {
      const families = istioHostRule(this.netns);
      if (families === settings.get('istio_probes')) return;
      settings.set({ istio_probes: families });
      log.info({ families: familiesOf(families) }, "Istio's probe addresses are believed for these families, as its host rule says");
    });
  }

  /** An address of Istio's that its host rule gives to the node's connections now. */
  isIstioProbe(address: string): boolean {
    const { ISTIO_PROBES_V4, ISTIO_PROBES_V6 } = enums.istio_probes;
    const believed = this.#o.settings.get('istio_probes');
    if (address === '169.254.7.127') return (believed & ISTIO_PROBES_V4) !== 0;
    return address === 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff' && (believed & ISTIO_PROBES_V6) !== 0;
  }

  close(): void {
    this.netns.close();
  }

  #follow(what: string, step: () => void): void {
    try {
      step();
      this.#faults.delete(what);
    } catch (error) {
      const fault = describe(error);
      if (this.#faults.get(what) !== fault) this.#o.log.warn({ error: fault }, 'what the node says cannot be followed');
      this.#faults.set(what, fault);
    }
  }
}

function familiesOf(bits: number): string[] {
  return [
    ...((bits & enums.istio_probes.ISTIO_PROBES_V4) !== 0 ? ['IPv4'] : []),
    ...((bits & enums.istio_probes.ISTIO_PROBES_V6) !== 0 ? ['IPv6'] : []),
  ];
}
