/** `culvert connections` and `culvert certs`: asked of the built-in tunnel itself, on its own admin socket. */
import { request } from 'node:http';
import type { Command } from 'commander';
import { paths } from '../agent/api.ts';
import { CulvertError, isSystem } from '../base/errors.ts';
import type { Cli } from './main.ts';
import { answer } from './output.ts';
import { fromAll, reading, type ReadingOptions } from './reading.ts';
import type { Target } from './targets.ts';

export interface ConnectionRow {
  node: string;
  pod: string;
  direction: 'inbound' | 'outbound';
  src: string;
  originalDst: string;
  actualDst: string;
  protocol: string;
  peerIdentity: string | null;
  bytesIn: number;
  bytesOut: number;
}

export interface CertificateRow {
  node: string;
  identity: string;
  notBefore: string;
  notAfter: string;
  state: string;
  serial: string;
}

interface ConfigDump {
  connections: ConnectionRow[];
  certificates: CertificateRow[];
}

export function addConnections(root: Command, cli: Cli): void {
  reading(root, 'connections')
    .description("the tunnel's live connections")
    .action(async (options: ReadingOptions) => {
      const rows = await fromAll(cli, options, async (target) => (await configDump(target)).connections);
      await answer(cli.io, options.output, rows, () => ({
        head: ['POD', 'NODE', 'DIRECTION', 'SOURCE', 'ORIGINAL DESTINATION', 'ACTUAL DESTINATION', 'PROTOCOL', 'PEER', 'IN', 'OUT'],
        rows: rows.map((row) => [
          row.pod,
          row.node,
          row.direction,
          row.src,
          row.originalDst,
          row.actualDst,
          row.protocol,
          row.peerIdentity ?? '',
          bytes(row.bytesIn),
          bytes(row.bytesOut),
        ]),
      }));
    });
}

export function addCerts(root: Command, cli: Cli): void {
  reading(root, 'certs')
    .description("the tunnel's workload certificates")
    .action(async (options: ReadingOptions) => {
      const rows = await fromAll(cli, options, async (target) => (await configDump(target)).certificates);
      await answer(cli.io, options.output, rows, () => ({
        head: ['IDENTITY', 'NODE', 'STATE', 'NOT BEFORE', 'NOT AFTER', 'SERIAL'],
        rows: rows.map((row) => [row.identity, row.node, row.state, row.notBefore, row.notAfter, row.serial]),
      }));
    });
}

/** @throws CulvertError AGENT_UNREACHABLE: exit code 3 holds for the tunnel as well, the answer needs it */
async function configDump(target: Target): Promise<ConfigDump> {
  const socketPath = paths.tunnelAdminSocket(target.runDir);
  const text = await new Promise<string>((resolve, reject) => {
    const unreachable = (cause: string, error?: unknown): void => {
      const whose = target.node === undefined ? '' : ` of ${target.node}`;
      reject(new CulvertError('AGENT_UNREACHABLE', `ask tunnel${whose}: ${cause} (${socketPath}); is the built-in tunnel running?`, error));
    };
    const asked = request({ socketPath, path: '/config_dump', agent: false, timeout: 5000 }, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => (body += chunk));
      response.on('end', () => {
        if (response.statusCode === 200) resolve(body);
        else unreachable(`it answered HTTP ${response.statusCode}`);
      });
    });
    asked.on('timeout', () => asked.destroy(new Error('no answer within 5 s')));
    asked.on('error', (error) => {
      unreachable(isSystem(error, 'ENOENT') || isSystem(error, 'ECONNREFUSED') ? 'nobody listens' : error.message);
    });
    asked.end();
  });
  return JSON.parse(text) as ConfigDump;
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

function bytes(count: number): string {
  const power = Math.min(UNITS.length - 1, Math.floor(Math.log2(Math.max(count, 1)) / 10));
  return `${power === 0 ? count : (count / 1024 ** power).toFixed(1)} ${UNITS[power]}`;
}
