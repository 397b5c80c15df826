/** What the agent can be told, with defaults as in a cluster; read by base/config.ts. */
import { statSync } from 'node:fs';
import { z } from 'zod';
import { CulvertError, describe } from '../base/errors.ts';
import { enablementSelectorsSchema } from '../enrol/selectors.ts';
import { DRIVER_NAMES } from '../redirect/driver.ts';

const path = z.string().startsWith('/', 'must be an absolute path');
const fileName = z.string().regex(/^[^/]+$/, 'must be a file name without a directory');
const port = z.int().min(0).max(65535);

/** Own-config mode's file where no other name is given; it comes before what distributions install. */
export const OWN_CONFIG = '02-culvert.conflist';

export const agentConfigSchema = z
  .object({
    node: z.string().min(1).describe('name of this node, as the source spells it'),
    runDir: path.default('/var/run/culvert').describe('directory of the sockets for plugin and command line'),
    stateDir: path.default('/var/lib/culvert').describe('directory of what outlives a reboot: enrolment snapshot, instance id'),
    pinDir: path.default('/sys/fs/bpf/culvert').describe('directory on bpffs, one per agent'),
    zdsSocket: path.default('/var/run/ztunnel/ztunnel.sock').describe('where tunnels connect'),
    cgroupRoot: path
      .optional()
      .describe('cgroup v2 directory below which pods and tunnels run; default: where the whole of cgroup v2 is mounted'),
    procRoot: path.default('/proc').describe("the node's procfs; in a container the host's, mounted writable"),
    nodeNetns: path.default('/proc/1/ns/net').describe("the node's network namespace; its own connections to pods are probes"),
    probeExemption: z
      .enum(['node', 'kubelet'])
      .default('node')
      .describe(
        'whose connections from the node to its pods are probes, which pass the mesh by: those of all its processes, or of kubelet',
      ),
    kubeletCgroup: z
      .array(path)
      .default([])
      .describe("probeExemption kubelet: its cgroup v2 directories below the root, /system.slice/kubelet.service; default: its process's"),
    source: z.enum(['file', 'kubernetes']).default('file').describe('where pods and labels come from'),
    meshFile: path.optional().describe('source file: the mesh YAML'),
    kubeconfig: path.optional().describe('of the API server when the agent runs outside the cluster; default: the account of its pod'),
    tunnel: z.enum(['builtin', 'external']).default('builtin').describe('which tunnel is expected on the ZDS socket'),
    redirectDriver: z
      .enum(['auto', ...DRIVER_NAMES])
      .default('auto')
      .describe('how traffic gets into the tunnel; auto: ebpf where the kernel can, else nftables or iptables'),
    istioRules: z
      .enum(['remove', 'keep'])
      .default('remove')
      .describe(
        "istio-cni's rules in pods that this agent has, and what it left on the node: taken off; or kept, for handing the node back: pods that have them stay in the mesh when the agent leaves for good",
      ),
    maxPods: z.int().min(1).max(10_000).default(500).describe('map sizes derive from it'),
    dnsCapture: z.boolean().default(true).describe('capture DNS where a pod says nothing'),
    enablementSelectors: enablementSelectorsSchema
      .optional()
      .describe("labels that enrol, a list of {podSelector, namespaceSelector} as YAML; default: Istio's two, by istio.io/dataplane-mode"),
    excludedNamespaces: z.array(z.string()).default(['kube-system']).describe('never enrolled, whatever their labels say'),
    ownPods: z
      .array(z.strictObject({ namespace: z.string(), namePrefix: z.string().min(1) }))
      .default([])
      .describe("the mesh's own pods: the plugin lets them pass while the agent is away"),
    graceCapMs: z.int().min(0).max(60_000).default(10_000).describe('longest wait for peers when a running pod leaves'),
    leaveDeadlineMs: z
      .int()
      .min(0)
      .max(3_600_000)
      .default(60_000)
      .describe('how long open connections of a running pod that leaves may go on before the tunnel ends them'),
    metricsPort: port.default(15014).describe('HTTP: /metrics; 0: none'),
    podMetrics: z.boolean().default(false).describe('metrics with the names of pods, too: a time series per pod and reason'),
    healthPort: port.default(8000).describe('HTTP: /healthz and /readyz; 0: none'),
    installPlugin: z.boolean().default(false).describe('put the CNI plugin and its entry on the host, and keep them there'),
    pluginPath: path.optional().describe('installPlugin: the executable to install; default: the culvert-cni beside this program'),
    cniBinDir: path.default('/opt/cni/bin').describe('installPlugin: where the runtime looks for plugins'),
    cniConfDir: path.default('/etc/cni/net.d').describe('installPlugin: where the runtime looks for network configurations'),
    cniConfName: fileName.optional().describe('installPlugin: the configuration to join; default: the first valid one, as runtimes choose'),
    ownConfig: z
      .union([z.boolean(), z.string().regex(/^[^/]+\.conflist$/, 'must be true, false or the name of a .conflist')])
      .default(false)
      .describe(
        `installPlugin: leave the configuration as it is and put a copy with our entry before it, which outlives the agent: its name, or true for ${OWN_CONFIG}`,
      ),
    chained: z
      .boolean()
      .default(true)
      .describe('installPlugin: join the list of another plugin; false: a network of our own beside it, for a meta plugin such as Multus'),
    onAgentDown: z
      .enum(['closed', 'known', 'open'])
      .default('known')
      .describe('installPlugin: which pods may start while the agent is away: none, those known not to be enrolled, all'),
    statusPolicy: z
      .enum(['node-ready', 'agent-ready'])
      .default('node-ready')
      .describe('installPlugin: when STATUS is unwell, and so the node: never, or while the agent is not ready'),
    daemonSet: z
      .string()
      .regex(/^[a-z0-9.-]+\/[a-z0-9.-]+$/, 'must be "namespace/name"')
      .optional()
      .describe('DaemonSet that runs this agent: asked on SIGTERM whether another agent comes after this one; default: one does'),
    safeUpgrade: z.boolean().default(true).describe('false: everything is taken off the node whenever the agent is told to stop'),
    logLevel: z
      .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'])
      .default('info')
      .describe('least severe level that is logged'),
  })
  .describe('culvert agent');

export type AgentConfig = z.infer<typeof agentConfigSchema>;

/** What the settings need of each other and of the host. @throws CONFIG_INVALID naming every fault */
export function checkAgentConfig(config: AgentConfig): void {
  const { source, meshFile, metricsPort, healthPort, installPlugin, pluginPath } = config;
  const faults: string[] = [];
  if (source === 'file' && meshFile === undefined) faults.push('meshFile: source file needs it');
  if (metricsPort !== 0 && metricsPort === healthPort)
    faults.push(`metricsPort: must differ from healthPort, found ${metricsPort} in both`);
  if (installPlugin && pluginPath !== undefined) {
    try {
      if (!statSync(pluginPath).isFile()) faults.push(`pluginPath: must be a file, found "${pluginPath}"`);
    } catch (error) {
      faults.push(`pluginPath: ${describe(error)}`);
    }
  }
  if (faults.length > 0) throw new CulvertError('CONFIG_INVALID', `read configuration: ${faults.join('; ')}`);
}
