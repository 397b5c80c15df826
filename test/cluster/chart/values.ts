/** Values that the chart's tests share. */
import type { Values } from '../../support/helm.ts';

/** Kinds of installation, by the name of their golden file: the chart's values, and the namespace when it is not culvert-system. */
export const installations: Record<string, { values: Values; namespace?: string }> = {
  'without-istio': { values: {} },
  'agent-only': { values: { tunnel: { builtin: { enabled: false } }, control: { enabled: false } }, namespace: 'istio-system' },
  istiod: { values: { tunnel: { builtin: { revision: 'canary' } }, control: { enabled: false } } },
  /** Every value that there is, another than its default: what of it has no effect is a fault of the chart. */
  everything: {
    values: {
      global: { platform: 'openshift' },
      chained: true,
      provider: 'default',
      image: { hub: 'registry.example.com/mesh', name: 'culvert-debug', tag: 'v2' },
      imagePullPolicy: 'Never',
      imagePullSecrets: [{ name: 'registry' }],
      logging: { level: 'debug' },
      cniBinDir: '/usr/libexec/cni',
      cniConfDir: '/etc/cni/other.d',
      cniNetnsDir: '/run/other/netns',
      cniConfFileName: '10-calico.conflist',
      istioOwnedCNIConfig: true,
      istioOwnedCNIConfigFileName: '01-culvert.conflist',
      onAgentDown: 'closed',
      statusPolicy: 'agent-ready',
      safeUpgrade: false,
      excludeNamespaces: ['kube-system', 'storage'],
      ambient: {
        dnsCapture: false,
        shareHostNetworkNamespace: false,
        enablementSelectors: [
          {
            podSelector: { matchExpressions: [{ key: 'mesh', operator: 'NotIn', values: ['off'] }] },
            namespaceSelector: { matchLabels: { mesh: 'on' } },
          },
        ],
      },
      maxPods: 250,
      cgroupRoot: '/host/sys/fs/cgroup/unified',
      probeExemption: 'kubelet',
      redirectDriver: 'nftables',
      istioRules: 'keep',
      kubeletCgroup: ['/system.slice/kubelet.service'],
      metricsPort: 25014,
      healthPort: 28000,
      podMetrics: true,
      ownPods: [{ namespace: 'cert-manager', namePrefix: 'istio-csr-' }],
      updateStrategy: { type: 'OnDelete', rollingUpdate: null },
      uninstall: { graceful: false },
      daemonSetLabels: { team: 'platform' },
      seLinuxOptions: { type: 'spc_t' },
      ...part('agent'),
      tunnel: {
        builtin: {
          xdsAddress: 'https://control.example.com:15012',
          caAddress: 'https://ca.example.com:443',
          trustBundleName: 'other-root-cert',
          clusterId: 'east',
          network: 'east-1',
          onDemand: true,
          updateStrategy: { rollingUpdate: { maxSurge: 0, maxUnavailable: '10%' } },
          seLinuxOptions: { type: 'spc_t' },
          ...part('tunnel'),
        },
      },
      control: {
        replicas: 1,
        rootNamespace: 'mesh-policies',
        trustDomain: 'example.com',
        clusterDomain: 'example.internal',
        nodeAccounts: ['istio-system/ztunnel'],
        servingNames: ['control.example.com'],
        ...part('control'),
      },
    },
  },
};

function part(name: string): Values {
  return {
    resources: { requests: { cpu: '1', memory: '1Gi' }, limits: { memory: '2Gi' } },
    tolerations: [{ key: name, operator: 'Equal', value: 'yes', effect: 'NoExecute', tolerationSeconds: 60 }],
    affinity: {
      nodeAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: {
          nodeSelectorTerms: [{ matchExpressions: [{ key: name, operator: 'Exists' }] }],
        },
      },
    },
    nodeSelector: { [name]: 'yes' },
    priorityClassName: `${name}-priority`,
    terminationGracePeriodSeconds: 60,
    podAnnotations: { [`example.com/${name}`]: 'true' },
    podLabels: { [`example.com/${name}`]: 'label' },
    env: { CULVERT_LOG_LEVEL: 'trace', NODE_OPTIONS: `--title=${name}`, UV_THREADPOOL_SIZE: 10_000_000, NO_COLOR: true },
    seccompProfile: { type: 'Localhost', localhostProfile: `${name}.json` },
  };
}
