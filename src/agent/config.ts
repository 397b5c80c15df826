/** What the agent can be told, with defaults as in a cluster; read by base/config.ts. */
import { z } from 'zod';

const path = z.string().startsWith('/', 'must be an absolute path');

export const agentConfigSchema = z
  .object({
    node: z.string().min(1).describe('name of this node, as the source spells it'),
    runDir: path.default('/var/run/culvert').describe('directory of the sockets for plugin and command line'),
    stateDir: path.default('/var/lib/culvert').describe('directory of what outlives a reboot: enrolment snapshot, instance id'),
    pinDir: path.default('/sys/fs/bpf/culvert').describe('directory on bpffs, one per agent'),
    zdsSocket: path.default('/var/run/ztunnel/ztunnel.sock').describe('where tunnels connect'),
    cgroupRoot: path.optional().describe('cgroup v2 directory below which pods and tunnels run; default: where cgroup v2 is mounted'),
    nodeNetns: path.default('/proc/1/ns/net').describe("the node's network namespace; its own connections to pods are probes"),
    source: z.literal('file', 'must be "file"').default('file').describe('where pods and labels come from'),
    meshFile: path.describe('the YAML of the file source'),
    tunnel: z.enum(['builtin', 'external']).default('builtin').describe('which tunnel is expected on the ZDS socket'),
    maxPods: z.int().min(1).max(10_000).default(500).describe('map sizes derive from it'),
    dnsCapture: z.boolean().default(true).describe('capture DNS where a pod says nothing'),
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
    logLevel: z
      .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'])
      .default('info')
      .describe('least severe level that is logged'),
  })
  .describe('culvert agent');

export type AgentConfig = z.infer<typeof agentConfigSchema>;
