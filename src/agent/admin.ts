/**
 * The admin socket: one JSON request per connection, in one packet, with at most one netns fd; the answer is one JSON document
 * cut into packets, each led by a byte (0 more follows, 1 last). The asker closes, when it has the last one.
 */
import { closeSync } from 'node:fs';
import { z } from 'zod';
import type { Seqpacket, SeqpacketHandlers } from '../../addon/index.d.ts';
import { CulvertError, describe, isSystem } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { AdminRequest, AdminResponse } from './api.ts';

/** Largest request; both directions stay below the kernel's default limit of a packet (net.core.wmem_default). */
export const ADMIN_PACKET = 64 * 1024;
const CHUNK = 32 * 1024;
/** How long an asker may take to read its answer. */
const READ_DEADLINE_MS = 5000;

const requestSchema = z.discriminatedUnion('op', [
  z.strictObject({ op: z.literal('status') }),
  z.strictObject({ op: z.literal('pods') }),
  z.strictObject({ op: z.literal('doctor') }),
  z.strictObject({
    op: z.literal('verify'),
    pod: z
      .string()
      .regex(/^[^/]+\/[^/]+$/, 'must be namespace/name')
      .optional(),
  }),
  z.strictObject({
    op: z.literal('redirect-on'),
    flags: z.strictObject({ dns: z.boolean().optional(), ingressMode: z.boolean().optional() }).optional(),
  }),
  z.strictObject({ op: z.literal('redirect-off') }),
  z.strictObject({ op: z.literal('redirect-show') }),
]);

/** @param netnsFd the fd that came with the request; closed when the promise is settled */
export type AdminHandler = (request: AdminRequest, netnsFd: number | undefined) => Promise<unknown>;

/** For `seqpacketListen`. */
export function adminConnection(handler: AdminHandler, log: Logger): (socket: Seqpacket) => SeqpacketHandlers {
  return (socket) => {
    let asked = false;
    let open = true;
    let deadline: NodeJS.Timeout | undefined;
    return {
      onPacket(data, fds, truncated) {
        if (asked) {
          for (const fd of fds) closeSync(fd);
          return; // one request per connection
        }
        asked = true;
        void respond(handler, data, fds, truncated, log)
          .then((response) => sendChunks(socket, response, () => open))
          .catch((error: unknown) => {
            log.debug({ error: describe(error) }, 'admin answer not delivered');
          })
          // not at once: what the kernel did not take yet would be lost with the socket
          .finally(() => {
            if (open)
              deadline = setTimeout(() => {
                socket.close();
              }, READ_DEADLINE_MS);
          });
      },
      onClose() {
        open = false;
        clearTimeout(deadline);
      },
    };
  };
}

async function respond(handler: AdminHandler, data: Uint8Array, fds: number[], truncated: boolean, log: Logger): Promise<AdminResponse> {
  try {
    if (truncated || fds.length > 1) throw new CulvertError('USAGE', 'admin request: too long, or with more than one file descriptor');
    return { ok: true, result: await handler(parse(data), fds[0]) };
  } catch (error) {
    const fault = error instanceof CulvertError ? error : new CulvertError('SYSTEM', 'answer admin request', error);
    if (!(error instanceof CulvertError)) log.error({ err: error }, 'admin request failed');
    return { ok: false, error: { code: fault.code, message: describe(fault), retryable: fault.retryable } };
  } finally {
    for (const fd of fds) closeSync(fd);
  }
}

function parse(data: Uint8Array): AdminRequest {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(data).toString('utf8'));
  } catch (error) {
    throw new CulvertError('USAGE', 'admin request: it is no JSON', error);
  }
  const result = requestSchema.safeParse(value);
  if (result.success) return result.data as AdminRequest;
  throw new CulvertError(
    'USAGE',
    `admin request: ${result.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; ')}`,
  );
}

async function sendChunks(socket: Seqpacket, response: AdminResponse, isOpen: () => boolean): Promise<void> {
  const bytes = Buffer.from(JSON.stringify(response));
  const end = performance.now() + READ_DEADLINE_MS;
  for (let at = 0; at < bytes.length; at += CHUNK) {
    const last = at + CHUNK >= bytes.length;
    const packet = Buffer.concat([Buffer.from([last ? 1 : 0]), bytes.subarray(at, at + CHUNK)]);
    while (isOpen() && !trySend(socket, packet)) {
      if (performance.now() > end) throw new CulvertError('SYSTEM', 'send admin answer: the other side does not read');
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}

function trySend(socket: Seqpacket, packet: Uint8Array): boolean {
  try {
    socket.send(packet);
    return true;
  } catch (error) {
    if (isSystem(error, 'EAGAIN')) return false;
    throw error;
  }
}
