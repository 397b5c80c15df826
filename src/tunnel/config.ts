/** Settings of the built-in tunnel, and the two places that a mesh may come from. */
import { z } from 'zod';
import { CulvertError } from '../base/errors.ts';

const path = z.string().startsWith('/', 'must be an absolute path');
const port = z.int().min(0).max(65535);
const DAY_MS = 24 * 3600_000;

export const tunnelConfigSchema = z.strictObject({
  node: z.string().min(1).describe('name of this node'),
  runDir: path.default('/var/run/culvert').describe('directory of the admin socket'),
  zdsSocket: path.default('/var/run/ztunnel/ztunnel.sock').describe("the agent's ZDS socket"),
  source: z
    .enum(['file', 'xds'])
    .optional()
    .describe('where workloads and services come from: a mesh file or a control plane; default: file when there is a mesh file'),
  meshFile: path.optional().describe('source file: workloads and services'),
  caDir: path.optional().describe('source file: directory of the local CA: ca.crt, ca.key'),
  xdsAddress: z.string().min(1).optional().describe('source xds: the control plane, "https://host:port"'),
  caAddress: z.string().min(1).optional().describe('source xds: its CA; default: the same address'),
  rootCert: z
    .union([path, z.literal('SYSTEM')])
    .default('/var/run/secrets/istio/root-cert.pem')
    .describe('source xds: PEM file of the roots that the control plane is verified by, or SYSTEM'),
  tokenFile: path
    .default('/var/run/secrets/tokens/istio-token')
    .describe('source xds: bearer token that says who we are, read anew for each call'),
  serverName: z.string().min(1).optional().describe("source xds: accepted in the control plane's certificate besides its address"),
  clusterId: z.string().default('Kubernetes').describe('source xds: name of our cluster'),
  network: z.string().default('').describe('name of our network; workloads of others are not dialled'),
  onDemand: z.boolean().default(false).describe('source xds: ask for addresses as they are dialled, not for the whole mesh'),
  podName: z.string().min(1).optional().describe('source xds: our own pod, as the control plane is told'),
  podNamespace: z.string().min(1).optional().describe('source xds: its namespace'),
  instanceIp: z.union([z.ipv4(), z.ipv6()]).optional().describe('source xds: its address'),
  certificateLifetimeMs: z
    .int()
    .min(10_000)
    .max(3650 * DAY_MS)
    .default(DAY_MS)
    .describe('that the CA is asked for; renewed at half of it'),
  logLevel: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']).default('info').describe('least level that is logged'),
  drainDeadlineMs: z.int().min(0).max(3_600_000).default(5_000).describe('time for open connections to end after SIGTERM, ms'),
  adminPort: port.default(15000).describe('admin on localhost, 0 for any'),
  readinessPort: port.default(15021).describe('readiness, 0 for any'),
});

type TunnelConfig = z.infer<typeof tunnelConfigSchema>;

/** Where the mesh comes from, and who signs. */
export type MeshOrigin = { source: 'file'; meshFile: string; caDir: string } | { source: 'xds'; xdsAddress: string; caAddress: string };

/** @throws CONFIG_INVALID naming every setting that is missing */
export function meshOrigin({ source, meshFile, caDir, xdsAddress, caAddress }: TunnelConfig): MeshOrigin {
  const chosen = source ?? (meshFile !== undefined ? 'file' : xdsAddress !== undefined ? 'xds' : undefined);
  if (chosen === undefined) throw missing('meshFile or xdsAddress: one of them must say where the mesh comes from');
  if (chosen === 'xds') {
    if (xdsAddress === undefined) throw missing('xdsAddress: source xds needs it');
    return { source: 'xds', xdsAddress, caAddress: caAddress ?? xdsAddress };
  }
  if (meshFile !== undefined && caDir !== undefined) return { source: 'file', meshFile, caDir };
  const absent = Object.entries({ meshFile, caDir }).filter(([, value]) => value === undefined);
  throw missing(absent.map(([key]) => `${key}: source file needs it`).join('; '));
}

function missing(what: string): CulvertError {
  return new CulvertError('CONFIG_INVALID', `read configuration: ${what}`);
}
