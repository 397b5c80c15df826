/** Settings of the built-in tunnel. */
import { z } from 'zod';

const path = z.string().startsWith('/', 'must be an absolute path');
const port = z.int().min(0).max(65535);

export const tunnelConfigSchema = z.strictObject({
  node: z.string().min(1).describe('name of this node'),
  runDir: path.default('/var/run/culvert').describe('directory of the admin socket'),
  zdsSocket: path.default('/var/run/ztunnel/ztunnel.sock').describe("the agent's ZDS socket"),
  meshFile: path.describe('mesh file: workloads and services'),
  caDir: path.describe('directory of the local CA: ca.crt, ca.key'),
  logLevel: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']).default('info').describe('least level that is logged'),
  drainDeadlineMs: z.int().min(0).max(3_600_000).default(5_000).describe('time for open connections to end after SIGTERM, ms'),
  adminPort: port.default(15000).describe('admin on localhost, 0 for any'),
  readinessPort: port.default(15021).describe('readiness, 0 for any'),
});
