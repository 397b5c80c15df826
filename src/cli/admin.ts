/** One question to an agent: a SEQPACKET connection, one request packet (with at most one fd), the answer in packets. */
import type { AdminRequest, AdminResponse } from '../agent/api.ts';
import { paths } from '../agent/api.ts';
import { CulvertError, describe, isCulvert, isSystem } from '../base/errors.ts';
import { native } from '../sys/native.ts';

const MAX_PACKET = 1 << 17;

/** Where to ask. */
export interface Door {
  /** for messages */
  node: string | undefined;
  runDir: string;
}

/** The socket answers nothing: the agent is down or was never there. */
function unreachable(door: Door, cause: string): CulvertError {
  const whose = door.node === undefined ? '' : ` of ${door.node}`;
  return new CulvertError('AGENT_UNREACHABLE', `ask agent${whose}: ${cause} (${paths.adminSocket(door.runDir)}); is it running?`);
}

/**
 * @param fd goes with the request; stays the caller's
 * @throws CulvertError AGENT_UNREACHABLE, AGENT_REFUSED with the agent's own code and message
 */
export async function ask<T>(door: Door, request: AdminRequest, options: { fd?: number; timeoutMs?: number } = {}): Promise<T> {
  const response = JSON.parse(await exchange(door, JSON.stringify(request), options.fd, options.timeoutMs ?? 10_000)) as AdminResponse<T>;
  if (response.ok) return response.result;
  throw new CulvertError('AGENT_REFUSED', `${response.error.message} (${response.error.code})`, undefined, {
    retryable: response.error.retryable,
  });
}

async function exchange(door: Door, request: string, fd: number | undefined, timeoutMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const parts: Uint8Array[] = [];
    const deadline = setTimeout(() => {
      finish(() => {
        reject(unreachable(door, `no answer within ${timeoutMs / 1000} s`));
      });
    }, timeoutMs);
    let connection: ReturnType<typeof native.seqpacketConnect> | undefined;
    const finish = (act: () => void): void => {
      clearTimeout(deadline);
      act();
      connection?.close();
    };
    try {
      connection = native.seqpacketConnect(paths.adminSocket(door.runDir), MAX_PACKET, {
        onPacket(data) {
          parts.push(data.slice(1));
          if (data[0] === 1) {
            finish(() => {
              resolve(Buffer.concat(parts).toString('utf8'));
            });
          }
        },
        onClose(error) {
          finish(() => {
            reject(unreachable(door, error === undefined ? 'it closed the connection without an answer' : describe(error)));
          });
        },
      });
      connection.send(Buffer.from(request), fd);
    } catch (error) {
      finish(() => {
        // An addon that can't be loaded has its cause's ENOENT, and says nothing of the agent.
        const nobody = !isCulvert(error, 'NATIVE_LOAD') && (isSystem(error, 'ENOENT') || isSystem(error, 'ECONNREFUSED'));
        reject(nobody ? unreachable(door, 'nobody listens') : error instanceof CulvertError ? error : unreachable(door, describe(error)));
      });
    }
  });
}
