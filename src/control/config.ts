/** What control can be told, with defaults as in a cluster; read by base/config.ts. */
import { join } from 'node:path';
import { z } from 'zod';
import { CulvertError } from '../base/errors.ts';

const path = z.string().startsWith('/', 'must be an absolute path');
const account = z.string().regex(/^[a-z0-9.-]+\/[a-z0-9.-]+$/, 'must be "namespace/serviceaccount"');
const ms = (least: number): z.ZodInt => z.int().min(least);
const DAY_MS = 24 * 3600_000;

export const controlConfigSchema = z
  .object({
    address: z
      .string()
      .regex(/^(\[[0-9a-fA-F:]+\]|[^:]*):\d{1,5}$/, 'must be "host:port", "[v6]:port" or ":port"')
      .refine((address) => Number(address.slice(address.lastIndexOf(':') + 1)) <= 65535, 'its port must be at most 65535')
      .default('[::]:15012')
      .describe('where tunnels connect for xDS and certificates (TLS)'),
    readinessPort: z.int().min(0).max(65535).default(8080).describe('HTTP: /healthz and /readyz, 0 for any'),
    runDir: path.default('/var/run/culvert').describe('directory of the socket that tells how it is'),
    cluster: z.enum(['kubernetes', 'file']).default('kubernetes').describe('where pods, services and policies come from'),
    kubeconfig: path.optional().describe('of the API server when control runs outside the cluster; default: the account of its pod'),
    meshFile: path.optional().describe('cluster file: the mesh YAML'),
    caDir: path.optional().describe('cluster file: directory of the CA: ca.crt, ca.key'),
    tokens: path.optional().describe('cluster file: JSON of bearer tokens and whose they are'),
    namespace: z.string().min(1).default('culvert-system').describe("control's own namespace: its CA secret and lease"),
    rootNamespace: z.string().min(1).default('istio-system').describe('policies in it hold for the whole mesh'),
    trustDomain: z
      .string()
      .regex(/^[a-z0-9._-]+$/, 'must be lower case letters, digits, ".", "-" and "_", as SPIFFE has it')
      .default('cluster.local')
      .describe('of all identities'),
    clusterDomain: z.string().min(1).default('cluster.local').describe('suffix of service names'),
    clusterId: z.string().min(1).default('Kubernetes').describe('name of the cluster in workload uids'),
    network: z.string().default('').describe('name of the network that all pods are on'),
    audience: z.string().min(1).default('istio-ca').describe('that tokens of callers must be made for'),
    nodeAccounts: z
      .array(account)
      .default(['culvert-system/ztunnel', 'istio-system/ztunnel'])
      .describe('accounts of tunnels: may watch the mesh, and ask for identities of the pods on their own node'),
    servingNames: z.array(z.string().min(1)).default([]).describe("further DNS names and addresses in control's own certificate"),
    certificateLifetimeMs: ms(1000).default(DAY_MS).describe('of a workload certificate when the caller asks for none'),
    maxCertificateLifetimeMs: ms(1000)
      .default(90 * DAY_MS)
      .describe('longest that a caller may ask for'),
    rootLifetimeMs: ms(10_000)
      .default(3650 * DAY_MS)
      .describe('of a root that control makes'),
    rootOverlapMs: ms(1000)
      .default(2 * DAY_MS)
      .describe('how long a new root is trusted before it signs, and the old one after'),
    leaseDurationMs: ms(2000)
      .multipleOf(1000, 'must be whole seconds')
      .default(15_000)
      .describe('how long the other replicas wait for a leader that is silent'),
    drainDeadlineMs: z.int().min(0).max(3_600_000).default(5_000).describe('time for calls to end after SIGTERM'),
    logLevel: z
      .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'])
      .default('info')
      .describe('least severe level that is logged'),
  })
  .describe('culvert control');

export type ControlConfig = z.infer<typeof controlConfigSchema>;

/** What a lab has in files that a cluster has in its API. */
export interface FileOrigin {
  meshFile: string;
  caDir: string;
  tokens: string;
}

/** @throws CONFIG_INVALID naming every setting that is missing */
export function fileOrigin({ meshFile, caDir, tokens }: ControlConfig): FileOrigin {
  if (meshFile !== undefined && caDir !== undefined && tokens !== undefined) return { meshFile, caDir, tokens };
  const absent = Object.entries({ meshFile, caDir, tokens }).filter(([, value]) => value === undefined);
  throw new CulvertError('CONFIG_INVALID', `read configuration: ${absent.map(([key]) => `${key}: cluster file needs it`).join('; ')}`);
}

/** HTTP over a unix socket: /healthz, /readyz, /status. */
export function controlSocket(runDir: string): string {
  return join(runDir, 'control.sock');
}
