/** Settings of the built-in tunnel, and the two places that a mesh may come from. */
import { z } from 'zod';
import { CulvertError } from '../base/errors.ts';

const path = z.string().startsWith('/', 'must be an absolute path');
const port = z.int().min(0).max(65535);
const DAY_MS = 24 * 3600_000;
/** "name=value", as many as there are. */
const pairs = z.array(z.string().regex(/^[A-Za-z0-9_.-]+=[\x20-\x7e]*$/, 'must be "name=value"')).default([]);

export const tunnelConfigSchema = z.strictObject({
  node: z.string().min(1).describe('name of this node'),
  runDir: path.default('/var/run/culvert').describe('directory of the admin socket'),
  zdsSocket: path.default('/var/run/ztunnel/ztunnel.sock').describe("the agent's ZDS socket"),
  meshFile: path.optional().describe('workloads and services, when there is no control plane: the mesh YAML'),
  caDir: path.optional().describe('with a mesh file: directory of the local CA: ca.crt, ca.key'),
  xdsAddress: z.string().min(1).optional().describe('the control plane, "https://host:port"; without it the mesh comes from a file'),
  caAddress: z.string().min(1).optional().describe('the CA; default: the control plane'),
  rootCert: z
    .union([path, z.literal('SYSTEM')])
    .default('/var/run/secrets/istio/root-cert.pem')
    .describe('PEM file of the roots that the control plane is verified by, or SYSTEM'),
  tokenFile: path
    .default('/var/run/secrets/tokens/istio-token')
    .describe('bearer token that tells the control plane who we are, read anew for each call'),
  serverName: z.string().min(1).optional().describe("accepted in the control plane's certificate besides its address"),
  clusterId: z.string().default('Kubernetes').describe('name of our cluster'),
  network: z.string().default('').describe('name of our network; workloads of others are not dialled'),
  onDemand: z.boolean().default(false).describe('ask the control plane for addresses as they are dialled, not for the whole mesh'),
  podName: z.string().min(1).optional().describe('our own pod, as the control plane is told'),
  podNamespace: z.string().min(1).optional().describe('namespace of our own pod'),
  instanceIp: z.union([z.ipv4(), z.ipv6()]).optional().describe('address of our own pod'),
  xdsHeaders: pairs.describe('further headers of xDS calls, "name=value"'),
  caHeaders: pairs.describe('further headers of calls to the CA'),
  nodeMetadata: pairs.describe('what the control plane is told of us beside names and addresses'),
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

/** @param entries "name=value"; the last of a name counts */
export function readPairs(entries: readonly string[]): Record<string, string> {
  return Object.fromEntries(entries.map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]));
}

/** Where the mesh comes from, and who signs. */
export type MeshOrigin = { source: 'file'; meshFile: string; caDir: string } | { source: 'xds'; xdsAddress: string; caAddress: string };

/** @throws CONFIG_INVALID naming every setting that is missing */
export function meshOrigin({ meshFile, caDir, xdsAddress, caAddress }: TunnelConfig): MeshOrigin {
  if (xdsAddress !== undefined) return { source: 'xds', xdsAddress, caAddress: caAddress ?? xdsAddress };
  if (meshFile === undefined) throw missing('xdsAddress or meshFile: one of them must say where the mesh comes from');
  if (caDir === undefined) throw missing('caDir: a mesh file needs a local CA beside it');
  return { source: 'file', meshFile, caDir };
}

function missing(what: string): CulvertError {
  return new CulvertError('CONFIG_INVALID', `read configuration: ${what}`);
}
