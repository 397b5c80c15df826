/** Who is neither a pod nor the node: a host on the node's other network, 10.78.0.0/24 and fd78::/64, from which NodePorts are reached. */
import { execFileSync } from 'node:child_process';
import type { Endpoint, TestNode, TestPod } from '../../support/netns.ts';
import { CLUSTER_IP } from './rules.ts';

/** The node's addresses there. Its route to services leads that way, so what it sends to them starts with these. */
export const NODE_OUTSIDE = { v4: '10.78.0.1', v6: 'fd78::1' };
const HOST = { v4: '10.78.0.2', v6: 'fd78::2' };

export async function outsideHost(node: TestNode): Promise<Endpoint> {
  const host: TestPod = await node.pod('outside', 200);
  await node.ip(
    'link set v200 nomaster',
    `addr add ${NODE_OUTSIDE.v4}/24 dev v200`,
    `addr add ${NODE_OUTSIDE.v6}/64 dev v200 nodad`,
    `route add ${CLUSTER_IP.v4}/32 via ${HOST.v4}`,
    `route add ${CLUSTER_IP.v6}/128 via ${HOST.v6}`,
  );
  await node.ipIn(
    host.netnsName,
    'addr flush dev eth0',
    `addr add ${HOST.v4}/24 dev eth0`,
    `addr add ${HOST.v6}/64 dev eth0 nodad`,
    `route replace default via ${NODE_OUTSIDE.v4}`,
    `route replace default via ${NODE_OUTSIDE.v6}`,
  );
  const forward = 'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding';
  execFileSync('nsenter', [`--net=${node.nodeNetns}`, 'sh', '-c', forward]);
  return node.process('outside', host.netns);
}
