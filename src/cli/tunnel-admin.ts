/** What a node's tunnel knows: asked of the built-in one over a unix socket in its run directory, else as `external-tunnel.ts` says. */
import { request } from 'node:http';
import { paths } from '../agent/api.ts';
import { CulvertError, isCulvert, isSystem } from '../base/errors.ts';
import type { ConfigDump } from '../tunnel/config-dump.ts';
import type { Door } from './admin.ts';
import { externalDumps, type TunnelDump } from './external-tunnel.ts';

const TIMEOUT_MS = 5000;

/** @throws CulvertError AGENT_UNREACHABLE: exit code 3 holds for the tunnel as well, the answer needs it */
export async function configDump(door: Door): Promise<ConfigDump> {
  const socketPath = paths.tunnelAdminSocket(door.runDir);
  return new Promise((resolve, reject) => {
    const unreachable = (cause: string, error?: unknown): void => {
      const whose = door.node === undefined ? '' : ` of ${door.node}`;
      reject(new CulvertError('AGENT_UNREACHABLE', `ask tunnel${whose}: ${cause} (${socketPath}); is the built-in tunnel running?`, error));
    };
    const asked = request({ socketPath, path: '/config_dump', agent: false, timeout: TIMEOUT_MS }, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => (body += chunk));
      response.on('error', (error) => {
        unreachable(error.message, error);
      });
      response.on('end', () => {
        if (response.statusCode === 200) resolve(JSON.parse(body) as ConfigDump);
        else unreachable(`it answered HTTP ${response.statusCode}`);
      });
    });
    asked.on('timeout', () => asked.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
    asked.on('error', (error) => {
      unreachable(isSystem(error, 'ENOENT') || isSystem(error, 'ECONNREFUSED') ? 'nobody listens' : error.message);
    });
    asked.end();
  });
}

/** Of every tunnel that serves the node, the newest last: two while one replaces the other. @throws CulvertError AGENT_UNREACHABLE */
export async function tunnelDumps(door: Door): Promise<TunnelDump[]> {
  try {
    return [await configDump(door)]; // first, because it needs no agent
  } catch (error) {
    if (!isCulvert(error, 'AGENT_UNREACHABLE')) throw error;
    const external = await externalDumps(door);
    if (external === undefined) throw error;
    return external;
  }
}
