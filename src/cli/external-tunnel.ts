/**
 * A tunnel that is not ours is asked as istioctl asks Istio's: GET /config_dump on port 15000 of its own localhost. Where that is,
 * the agent knows: the network namespace of the process at the other end of its ZDS socket.
 */
import { Agent, request } from 'node:http';
import type { Duplex } from 'node:stream';
import type { AgentStatus } from '../agent/api.ts';
import { CulvertError, describe, isCulvert } from '../base/errors.ts';
import { Netns } from '../sys/netns.ts';
import { connect } from '../sys/socket.ts';
import type { ConnectionRow, DumpedCertificate, DumpedWorkload } from '../tunnel/config-dump.ts';
import { ask, type Door } from './admin.ts';

const ADMIN_PORT = 15000;
const TIMEOUT_MS = 5000;

interface IstioCertificate {
  pem: string;
  serialNumber: string;
  validFrom: string;
  expirationTime: string;
}

interface IstioConnection {
  src: string;
  originalDst: string;
  actualDst: string;
  protocol: string;
}

/** What we read of Istio's dump. */
interface IstioDump {
  workloads: DumpedWorkload[];
  certificates: { identity: string; state: string; certChain?: IstioCertificate[]; rootCerts?: IstioCertificate[] }[];
  workloadState: Record<
    string,
    { info: { name: string; namespace: string }; connections?: { inbound?: IstioConnection[]; outbound?: IstioConnection[] } }
  >;
}

/** What both kinds of tunnel tell. */
export interface TunnelDump {
  workloads: DumpedWorkload[];
  connections: ConnectionRow[];
  certificates: DumpedCertificate[];
}

/**
 * Of every tunnel that is connected to the agent, in that order; undefined when it expects the built-in one, or does not answer.
 * @throws CulvertError AGENT_UNREACHABLE when there is none, or one tells nothing
 */
export async function externalDumps(door: Door): Promise<TunnelDump[] | undefined> {
  const status = await ask<AgentStatus>(door, { op: 'status' }).catch((error: unknown) => {
    if (isCulvert(error, 'AGENT_UNREACHABLE')) return undefined;
    throw error;
  });
  if (status === undefined || status.tunnel.kind === 'builtin') return undefined;
  const { node } = status;
  if (status.tunnel.connections.length === 0)
    throw new CulvertError('AGENT_UNREACHABLE', `ask tunnel of ${node}: none is connected to the agent, which expects an external one`);
  return Promise.all(
    status.tunnel.connections.map(async ({ pid }) => {
      try {
        using netns = Netns.ofProcess(pid);
        return read(node, await configDumpIn(netns));
      } catch (error) {
        throw new CulvertError(
          'AGENT_UNREACHABLE',
          `ask tunnel of ${node}: process ${pid} gives no /config_dump on localhost:${ADMIN_PORT} of its network namespace, as Istio's ztunnel does`,
          error,
        );
      }
    }),
  );
}

function read(node: string, dump: IstioDump): TunnelDump {
  return { workloads: dump.workloads, connections: connectionsOf(node, dump), certificates: certificatesOf(node, dump) };
}

/** @throws CulvertError SYSTEM when nobody answers there or it is no dump */
export async function configDumpIn(netns: Netns): Promise<IstioDump> {
  const socket = await connect(netns.fd, {
    type: 'tcp',
    family: 4,
    destination: { address: '127.0.0.1', port: ADMIN_PORT },
    timeoutMs: TIMEOUT_MS,
  });
  try {
    const body = await get(socket, '/config_dump');
    const dump: unknown = JSON.parse(body);
    if (typeof dump !== 'object' || dump === null || !('workloads' in dump))
      throw new CulvertError('SYSTEM', 'read /config_dump: it has no workloads');
    return dump as IstioDump;
  } catch (error) {
    if (isCulvert(error, 'SYSTEM')) throw error;
    throw new CulvertError('SYSTEM', `read /config_dump: ${describe(error)}`, error);
  } finally {
    socket.destroy();
  }
}

/** Istio's tunnel tells neither peers nor bytes of a connection: null. */
function connectionsOf(node: string, dump: IstioDump): ConnectionRow[] {
  return Object.values(dump.workloadState).flatMap(({ info, connections }) =>
    (['inbound', 'outbound'] as const).flatMap((direction) =>
      (connections?.[direction] ?? []).map(({ src, originalDst, actualDst, protocol }) => ({
        ...{ node, pod: `${info.namespace}/${info.name}`, direction, src, originalDst, actualDst },
        ...{ protocol: protocol === 'HBONE' ? ('HBONE' as const) : ('TCP' as const), peerIdentity: null, bytesIn: null, bytesOut: null },
      })),
    ),
  );
}

function certificatesOf(node: string, dump: IstioDump): DumpedCertificate[] {
  return dump.certificates.map(({ identity, state, certChain = [], rootCerts = [] }) => ({
    ...{ node, identity, state, notBefore: certChain[0]?.validFrom ?? null, notAfter: certChain[0]?.expirationTime ?? null },
    ...{ serial: certChain[0]?.serialNumber ?? null, error: null, errorTime: null, certChain, rootCerts },
  }));
}

function get(socket: Duplex, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    // An agent of its own hands out the socket that the addon made: `createConnection` of a request is for sockets of our netns.
    const agent = new Agent({ keepAlive: false });
    agent.createConnection = () => socket;
    const asked = request({ host: 'localhost', path, agent, timeout: TIMEOUT_MS }, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => (body += chunk));
      response.on('error', reject);
      response.on('end', () => {
        if (response.statusCode === 200) resolve(body);
        else reject(new Error(`it answered HTTP ${String(response.statusCode)}`));
      });
    });
    asked.on('timeout', () => asked.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
    asked.on('error', reject);
    asked.end();
  });
}
