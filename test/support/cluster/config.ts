/** Configuration of what runs on a node, as files with their text. */
import { stringify } from 'yaml';
import { DNS_SERVICE, podSubnets } from './network.ts';

export const PAUSE_IMAGE = 'culvert.test/pause:1';
export const CONTAINERD_SOCKET = '/run/containerd/containerd.sock';

const NO_LIMITS = `
  restrict_oom_score_adj = true
  disable_apparmor = true
  tolerate_missing_hugetlb_controller = true
  disable_hugetlb_controller = true`;

/** runc is the one in PATH. */
export function containerdConfig(version: '2' | '1.6'): string {
  const runtime = (plugin: string): string => `
[plugins."${plugin}".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."${plugin}".containerd.runtimes.runc.options]
  SystemdCgroup = false
`;
  const common = (format: number): string => `version = ${format}
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri"]
[grpc]
  address = "${CONTAINERD_SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
`;
  if (version === '1.6') {
    const cri = 'io.containerd.grpc.v1.cri';
    return `${common(2)}[plugins."${cri}"]
  sandbox_image = "${PAUSE_IMAGE}"${NO_LIMITS}${runtime(cri)}`;
  }
  return `${common(3)}[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "${PAUSE_IMAGE}"
[plugins."io.containerd.cri.v1.runtime"]${NO_LIMITS}${runtime('io.containerd.cri.v1.runtime')}`;
}

/** @param cgroupRoot of its pods, below each hierarchy's root: "/cvt-k1/node1"; the paths are inside the node */
export function kubeletConfig(options: { cgroupRoot: string; certificate: string; key: string; clientCa: string }): string {
  // Block style: kubelet reads a text that starts with a brace as JSON.
  return stringify({
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    containerRuntimeEndpoint: `unix://${CONTAINERD_SOCKET}`,
    tlsCertFile: options.certificate,
    tlsPrivateKeyFile: options.key,
    authentication: { anonymous: { enabled: false }, webhook: { enabled: true }, x509: { clientCAFile: options.clientCa } },
    authorization: { mode: 'Webhook' },
    cgroupDriver: 'cgroupfs',
    cgroupRoot: options.cgroupRoot,
    failCgroupV1: false,
    failSwapOn: false,
    enforceNodeAllocatable: [],
    localStorageCapacityIsolation: false,
    resolvConf: '',
    clusterDNS: [DNS_SERVICE],
    clusterDomain: 'cluster.local',
    volumePluginDir: '/var/lib/kubelet/volume-plugins',
    // The disk is the machine's: how full it is says nothing about the test.
    evictionHard: { 'memory.available': '50Mi', 'nodefs.available': '1%', 'imagefs.available': '1%', 'nodefs.inodesFree': '1%' },
    imageGCHighThresholdPercent: 100,
    nodeStatusUpdateFrequency: '5s',
    syncFrequency: '10s',
    maxPods: 250,
  });
}

/** What a small cluster's own network would be: a bridge per node, addresses by host-local, host ports. */
export function conflist(index: number, cniVersion: string, dualStack: boolean): string {
  const subnets = podSubnets(index, dualStack);
  const list = {
    cniVersion,
    name: 'pods',
    plugins: [
      {
        type: 'bridge',
        bridge: 'cni0',
        isGateway: true,
        hairpinMode: true,
        ipam: {
          type: 'host-local',
          ranges: subnets.map((subnet) => [{ subnet }]),
          routes: ['0.0.0.0/0', '::/0'].slice(0, subnets.length).map((dst) => ({ dst })),
        },
      },
      { type: 'portmap', capabilities: { portMappings: true } },
    ],
  };
  return `${JSON.stringify(list, undefined, 2)}\n`;
}
