/** A node with two pods, the namespace of its tunnel, and a host outside; what a listener saw tells which way a connection went. */
import { execFileSync } from 'node:child_process';
import { setUpGeneve, type Geneve } from '../../../src/bench/geneve/index.ts';
import { expectNothingLeft } from '../../support/bpf-leftovers.ts';
import type { Accepted } from '../../support/endpoint.ts';
import { TestNode, type Endpoint, type TestPod } from '../../support/netns.ts';
import { outsideHost } from '../probes/outside.ts';

/** of the host outside */
export const OUTSIDE = '10.78.0.2';
export const APP_PORT = 8080;
/** Set by test/kernels/geneve.sh: an emulated processor is some fifty times slower, and its kernel has Geneve. */
export const emulated = process.env['CULVERT_TEST_GENEVE'] !== undefined;
export const patienceMs = emulated ? 60_000 : 3000;

export class GeneveScene {
  readonly node: TestNode;
  readonly meshed: TestPod;
  readonly plain: TestPod;
  readonly tunnel: TestPod;
  readonly inMeshed: Endpoint;
  readonly inPlain: Endpoint;
  readonly onNode: Endpoint;
  readonly outside: Endpoint;

  private constructor(parts: Omit<GeneveScene, 'options' | 'setUp' | 'state' | 'close'>) {
    this.node = parts.node;
    [this.meshed, this.plain, this.tunnel] = [parts.meshed, parts.plain, parts.tunnel];
    [this.inMeshed, this.inPlain, this.onNode, this.outside] = [parts.inMeshed, parts.inPlain, parts.onNode, parts.outside];
  }

  static async create(): Promise<GeneveScene> {
    const node = await TestNode.create('gnv');
    try {
      const [meshed, plain, tunnel] = [await node.pod('meshed', 2), await node.pod('plain', 3), await node.pod('ztunnel', 4)];
      await node.ipIn(tunnel.netnsName, 'link delete eth0'); // its network is the layout's to make
      for (const netns of [node.nodeNetns, tunnel.netns]) strict(netns);
      const [inMeshed, inPlain, inTunnel, onNode, outside] = await Promise.all([
        ...[meshed, plain, tunnel].map((pod) => node.process('app', pod.netns)),
        node.process('app', node.nodeNetns),
        outsideHost(node),
      ]);
      await Promise.all([
        inMeshed.call('listen', { name: 'meshed', host: '0.0.0.0', port: APP_PORT }),
        inPlain.call('listen', { name: 'plain', host: '0.0.0.0', port: APP_PORT }),
        outside!.call('listen', { name: 'outside', host: '0.0.0.0', port: APP_PORT }),
        // 15006 goes on to the app under the client's address, as ztunnel does; the other two answer themselves.
        inTunnel!.call('serve', { name: 'tunnel', netns: tunnel.netns, ports: [15001, 15006, 15008], mark: 0 }),
      ]);
      return new GeneveScene({
        ...{ node, meshed, plain, tunnel },
        ...{ inMeshed: inMeshed, inPlain: inPlain, onNode: onNode!, outside: outside! },
      });
    } catch (error) {
      await node.close();
      throw error;
    }
  }

  setUp(podNetns = [this.meshed.netns]): Promise<Geneve> {
    return setUpGeneve({ nodeNetns: this.node.nodeNetns, tunnelNetns: this.tunnel.netns, podNetns });
  }

  /** All that a layout could leave behind, as the tools print it; without link-local addresses, which come when the kernel has tried them. */
  state(): string {
    const script =
      'for c in "iptables-save" "ip6tables-save" "nft list ruleset" "ipset save" "ip -4 rule" "ip -6 rule" ' +
      '"ip -4 route show table all" "ip -6 route show table all" "ip address" "sysctl net.ipv4"; do ' +
      'echo "## $c"; $c 2>/dev/null | grep -v -e "^#" -e valid_lft -e fe80; done';
    return [this.node.nodeNetns, this.tunnel.netns, this.meshed.netns, this.plain.netns]
      .map((netns) => execFileSync('nsenter', [`--net=${netns}`, 'sh', '-c', script], { encoding: 'utf8', maxBuffer: 1 << 24 }))
      .join('\n');
  }

  async close(): Promise<void> {
    await this.node.close();
    await expectNothingLeft(this.node, { prog: [], map: [] });
  }
}

/** As most distributions have it: what the layout needs must be its own doing, and be undone. */
function strict(netns: string): void {
  execFileSync('nsenter', [`--net=${netns}`, 'sh', '-ec', 'for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 > $f; done']);
}

/** Who answered, and the addresses it saw. */
export interface Seen {
  by: string;
  /** with the port */
  destination: string;
  source: string;
}

/** @throws when nobody answered */
export async function connect(from: Endpoint, host: string, port = APP_PORT): Promise<Seen> {
  const { ok, code, greeting } = await from.call('connect', { host, port, timeoutMs: patienceMs });
  if (!ok || greeting === undefined) throw new Error(`connect to ${host}:${String(port)}: ${code ?? 'no greeting'}`);
  return seen(greeting);
}

export function seen(greeting: Accepted): Seen {
  const plain = (end: string): string => end.replace(/^::ffff:/, '');
  return { by: greeting.by, destination: plain(greeting.local).replace(' ', ':'), source: plain(greeting.remote).split(' ')[0]! };
}
