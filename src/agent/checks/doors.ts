/** The agent's sockets, tried as the plugin and the command line would. */
import { connect } from 'node:net';
import { native } from '../../sys/native.ts';
import { describe, isSystem } from '../../base/errors.ts';
import { paths } from '../api.ts';
import { Fault } from './check.ts';

export async function lookAtSockets(runDir: string): Promise<string> {
  const closed = [
    ...((await listens(paths.cniSocket(runDir))) ? [] : [paths.cniSocket(runDir)]),
    ...(takes(paths.adminSocket(runDir)) ? [] : [paths.adminSocket(runDir)]),
  ];
  if (closed.length === 0) return `${runDir}: cni.sock and admin.sock are served`;
  throw new Fault(
    `nobody serves ${closed.join(' and ')}`,
    'the agent does not run: look at its pod, and at its log; enrolled pods go on meanwhile',
  );
}

function listens(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

function takes(path: string): boolean {
  try {
    native.seqpacketConnect(path, 1 << 17, { onPacket: () => undefined, onClose: () => undefined }).close();
    return true;
  } catch (error) {
    if (isSystem(error, 'ENOENT') || isSystem(error, 'ECONNREFUSED')) return false;
    throw new Error(`connect to ${path}: ${describe(error)}`, { cause: error });
  }
}
