/**
 * The node's netfilter rules in the shapes that kube-proxy (both modes), portmap and istio-cni give them, reduced to one service with
 * one endpoint: ClusterIP port 80, NodePort 30080, hostPort 8088, all to port 8080 of one pod. Applied with the real tools.
 */
import { execFileSync } from 'node:child_process';
import type { TestNode, TestPod } from '../../support/netns.ts';

export const CLUSTER_IP = { v4: '10.96.0.10', v6: 'fd96::a' };
export const NODE_PORT = 30080;
export const HOST_PORT = 8088;
/** The pods' addresses: who has one of them is not masqueraded on its way to the service. */
const POD_RANGE = { v4: '10.77.0.0/16', v6: 'fd77::/64' };

type Family = 'v4' | 'v6';

function run(node: TestNode, command: string[], input: string): void {
  execFileSync('nsenter', [`--net=${node.nodeNetns}`, ...command], { input, stdio: ['pipe', 'pipe', 'pipe'] });
}

/** One shell line in the node's netns. */
export function inNode(node: TestNode, script: string): void {
  run(node, ['sh', '-ec', script], '');
}

const iptables = (family: Family): string => (family === 'v4' ? 'iptables' : 'ip6tables');
const end = (family: Family, address: string, port: number): string => (family === 'v4' ? `${address}:${port}` : `[${address}]:${port}`);
const addressOf = (pod: TestPod, family: Family): string => (family === 'v4' ? pod.ip4 : pod.ip6);

/** As kube-proxy in iptables mode, and portmap of the CNI plugins. */
function kubeProxyIptables(node: TestNode, pod: TestPod): void {
  for (const family of ['v4', 'v6'] as const) {
    const host = family === 'v4' ? 32 : 128;
    const ip = `${addressOf(pod, family)}/${host}`;
    const service = `-d ${CLUSTER_IP[family]}/${host} -p tcp -m comment --comment "shop/web cluster IP" -m tcp --dport 80`;
    const to = `-j DNAT --to-destination ${end(family, addressOf(pod, family), 8080)}`;
    const rules = [
      '*nat',
      ...['SERVICES', 'NODEPORTS', 'POSTROUTING', 'MARK-MASQ', 'SVC-WEB', 'EXT-WEB', 'SEP-WEB'].map((chain) => `:KUBE-${chain} - [0:0]`),
      ':CNI-HOSTPORT-DNAT - [0:0]',
      ':CNI-HOSTPORT-SETMARK - [0:0]',
      ':CNI-HOSTPORT-MASQ - [0:0]',
      ':CNI-DN-0123456789abcdef01234 - [0:0]',
      '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
      '-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
      '-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING',
      '-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT',
      '-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT',
      '-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ',
      '-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000',
      '-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN',
      '-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000',
      '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
      `-A KUBE-SERVICES ${service} -j KUBE-SVC-WEB`,
      '-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS',
      `-A KUBE-NODEPORTS -p tcp -m tcp --dport ${NODE_PORT} -j KUBE-EXT-WEB`,
      '-A KUBE-EXT-WEB -j KUBE-MARK-MASQ',
      '-A KUBE-EXT-WEB -j KUBE-SVC-WEB',
      `-A KUBE-SVC-WEB ! -s ${POD_RANGE[family]} ${service} -j KUBE-MARK-MASQ`,
      '-A KUBE-SVC-WEB -j KUBE-SEP-WEB',
      `-A KUBE-SEP-WEB -s ${ip} -j KUBE-MARK-MASQ`,
      `-A KUBE-SEP-WEB -p tcp -m tcp ${to}`,
      `-A CNI-HOSTPORT-DNAT -p tcp -m multiport --dports ${HOST_PORT} -j CNI-DN-0123456789abcdef01234`,
      `-A CNI-DN-0123456789abcdef01234 -s ${ip} -p tcp -m tcp --dport ${HOST_PORT} -j CNI-HOSTPORT-SETMARK`,
      `-A CNI-DN-0123456789abcdef01234 -p tcp -m tcp --dport ${HOST_PORT} ${to}`,
      '-A CNI-HOSTPORT-SETMARK -j MARK --or-mark 0x2000',
      '-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE',
      'COMMIT',
    ];
    run(node, [`${iptables(family)}-restore`], `${rules.join('\n')}\n`);
  }
}

/** As kube-proxy in nftables mode: one table per family, services in verdict maps. The hostPort as portmap's nftables backend has it. */
function kubeProxyNftables(node: TestNode, pod: TestPod): void {
  for (const family of ['v4', 'v6'] as const) {
    const ip = family === 'v4' ? 'ip' : 'ip6';
    const type = family === 'v4' ? 'ipv4_addr' : 'ipv6_addr';
    const to = `dnat to ${end(family, addressOf(pod, family), 8080)}`;
    const ruleset = `
table ${ip} kube-proxy {
  chain mark-for-masquerade { mark set mark or 0x4000; }
  chain masquerading { mark and 0x4000 == 0 return
    mark set mark xor 0x4000
    masquerade fully-random
  }
  chain endpoint-web { ${ip} saddr ${addressOf(pod, family)} jump mark-for-masquerade
    meta l4proto tcp ${to}
  }
  chain service-web { ${ip} daddr ${CLUSTER_IP[family]} tcp dport 80 ${ip} saddr != ${POD_RANGE[family]} jump mark-for-masquerade
    goto endpoint-web
  }
  chain external-web { jump mark-for-masquerade
    goto service-web
  }
  map service-ips { type ${type} . inet_proto . inet_service : verdict
    elements = { ${CLUSTER_IP[family]} . tcp . 80 : goto service-web }
  }
  map service-nodeports { type inet_proto . inet_service : verdict
    elements = { tcp . ${NODE_PORT} : goto external-web }
  }
  chain services { ${ip} daddr . meta l4proto . th dport vmap @service-ips
    fib daddr type local meta l4proto . th dport vmap @service-nodeports
  }
  chain nat-prerouting { type nat hook prerouting priority dstnat
    jump services
  }
  chain nat-output { type nat hook output priority -100
    jump services
  }
  chain nat-postrouting { type nat hook postrouting priority srcnat
    jump masquerading
  }
}
table ${ip} cni_hostport {
  chain hostports { tcp dport ${HOST_PORT} ${to}
  }
  chain prerouting { type nat hook prerouting priority dstnat
    fib daddr type local jump hostports
  }
  chain output { type nat hook output priority -100
    fib daddr type local jump hostports
  }
}`;
    run(node, ['nft', '-f', '-'], ruleset);
  }
}

export const kubeProxy = { iptables: kubeProxyIptables, nftables: kubeProxyNftables };

/** How a CNI, or somebody's script, masquerades what the node sends to pods. `to` empty: MASQUERADE, else SNAT. */
export interface NodeMasquerade {
  to?: { v4: string; v6: string };
  randomPorts?: boolean;
}

export const masqueradeNode = {
  iptables(node: TestNode, { to, randomPorts = false }: NodeMasquerade): void {
    for (const family of ['v4', 'v6'] as const) {
      const target = to === undefined ? 'MASQUERADE' : `SNAT --to-source ${to[family]}`;
      const rule = `-d ${POD_RANGE[family]} -m addrtype --src-type LOCAL -j ${target}${randomPorts ? ' --random-fully' : ''}`;
      inNode(node, `${iptables(family)} -t nat -A POSTROUTING ${rule}`);
    }
  },
  nftables(node: TestNode, { to, randomPorts = false }: NodeMasquerade): void {
    for (const family of ['v4', 'v6'] as const) {
      const ip = family === 'v4' ? 'ip' : 'ip6';
      const target = to === undefined ? 'masquerade' : `snat to ${to[family]}`;
      const rule = `${ip} daddr ${POD_RANGE[family]} fib saddr type local ${target}${randomPorts ? ' fully-random' : ''}`;
      run(node, ['nft', '-f', '-'], `table ${ip} masq {\n chain post { type nat hook postrouting priority srcnat\n ${rule}\n }\n}\n`);
    }
  },
};

/** istio-cni's host rule, and what makes its address reach the pod. */
export const istioHostRule = {
  /** @param variant '-legacy', '-nft' or as the node has it */
  iptables(node: TestNode, pod: TestPod, variant = ''): void {
    for (const [family, source] of Object.entries(ISTIO_SOURCE) as [Family, string][]) {
      const set = `istio-inpod-probes-${family}`;
      inNode(
        node,
        [
          `ipset create ${set} hash:ip family ${family === 'v4' ? 'inet' : 'inet6'} comment`,
          `ipset add ${set} ${addressOf(pod, family)} comment uid-${pod.name}`,
          `${iptables(family)}${variant} -t nat -N ISTIO_POSTRT`,
          `${iptables(family)}${variant} -t nat -I POSTROUTING 1 -j ISTIO_POSTRT`,
          `${iptables(family)}${variant} -t nat -A ISTIO_POSTRT -m owner --socket-exists -p tcp -m set --match-set ${set} dst -j SNAT --to-source ${source}`,
        ].join('\n'),
      );
    }
  },
  nftables(node: TestNode, pod: TestPod): void {
    const rule = (family: Family, ip: string): string =>
      `meta l4proto tcp skuid 0 ${ip} daddr @istio-inpod-probes-${family} counter snat ${ip} to ${ISTIO_SOURCE[family]}`;
    const ruleset = `
table inet istio-ambient-nat {
  set istio-inpod-probes-v4 { type ipv4_addr
    elements = { ${pod.ip4} }
  }
  set istio-inpod-probes-v6 { type ipv6_addr
    elements = { ${pod.ip6} }
  }
  chain istio-postrouting { ${rule('v4', 'ip')}
    ${rule('v6', 'ip6')}
  }
  chain postrouting { type nat hook postrouting priority srcnat
    jump istio-postrouting
  }
}`;
    run(node, ['nft', '-f', '-'], ruleset);
  },
};

export const ISTIO_SOURCE = { v4: '169.254.7.127', v6: 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff' };

/** Everything that the functions above made. */
export function flushRules(node: TestNode): void {
  inNode(
    node,
    'nft flush ruleset; for t in iptables ip6tables; do $t -t nat -F; $t -t nat -X; done; ipset destroy 2>/dev/null || true; conntrack -F 2>/dev/null || true',
  );
}
