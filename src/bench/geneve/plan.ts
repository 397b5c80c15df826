/**
 * Names and numbers of the node-level redirect that Istio's ambient preview had up to 1.20 and replaced by the in-pod one. Marks,
 * tables, priorities, addresses, network identifiers and devices are those of its release 1.18; the names of chains and of the set
 * are ours, so that the two can be told apart.
 */

/** value/mask, as iptables and ip-rule read them. Several rules test one bit of a mark that another rule set with two. */
export const marks = {
  /** from a pod of the mesh, towards the tunnel */
  outbound: '0x100/0x100',
  /** as if the layout were not there */
  skip: '0x200/0x200',
  /** the same, and remembered for the connection */
  connectionSkip: '0x220/0x220',
  /** from the tunnel under somebody else's address; remembered for the connection */
  proxy: '0x210/0x210',
  /** what answers those goes to the tunnel again */
  proxyReturn: '0x040/0x040',
  /** in the tunnel's namespace: taken by TPROXY, to be delivered there */
  tproxy: '0x400/0xfff',
  /** in the tunnel's namespace: came over its own link for an address that is not its own, to be delivered there too */
  originalSource: '0x4d3/0xfff',
} as const;

/** The number behind the slash of a mark, for CONNMARK's masks. */
export const maskOf = (mark: string): string => mark.slice(mark.indexOf('/') + 1);

/** Routing tables on the node. The tunnel's namespace has the same numbers for its own ends. */
export const tables = { inbound: 100, outbound: 101, proxy: 102 } as const;

export const nodePriorities = { skip: 100, outbound: 101, proxyReturn: 102, inbound: 103 } as const;
/** 20001 and 20002 were cleaned up by 1.18 and set by nothing any more. */
export const tunnelPriorities = { tproxy: 20_000, originalSource: 20_003 } as const;

export interface Pair {
  vni: number;
  /** device and address on the node */
  device: string;
  address: string;
  /** device and address in the tunnel's namespace */
  peerDevice: string;
  peerAddress: string;
}

export const inbound: Pair = {
  ...{ vni: 1000, device: 'istioin', address: '192.168.126.1' },
  ...{ peerDevice: 'pistioin', peerAddress: '192.168.126.2' },
};
export const outbound: Pair = {
  ...{ vni: 1001, device: 'istioout', address: '192.168.127.1' },
  ...{ peerDevice: 'pistioout', peerAddress: '192.168.127.2' },
};
export const pairPrefix = 30;
export const tunnelUdpPort = 6081;

/** The tunnel's listeners in its own namespace. */
export const listenerPorts = { outbound: 15_001, inboundPlain: 15_006, inboundHbone: 15_008 } as const;

/** The tunnel pod's own network: a veth pair as a point-to-point CNI plugin makes it. Its address is ours to choose. */
export const link = { nodeDevice: 'gnv-ztunnel', tunnelDevice: 'gnv0', address: '192.168.125.2', mtu: 1500 } as const;
/** IPv4, UDP, Geneve's or VXLAN's header, Ethernet */
export const encapsulationBytes = 20 + 8 + 8 + 14;

export const podSet = 'culvert-gnv-pods';
/** Not CULVERT_…: those the agent's own iptables driver takes for its own, and takes away what it did not put. */
export const chains = {
  prerouting: 'NODE_GNV_PRERT',
  postrouting: 'NODE_GNV_POSTRT',
  input: 'NODE_GNV_INPUT',
  output: 'NODE_GNV_OUTPUT',
  forward: 'NODE_GNV_FORWARD',
  /** in the tunnel's namespace */
  tunnel: 'NODE_GNV_TUNNEL',
} as const;
