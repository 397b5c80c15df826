/** The plaintext door (15006): connections from outside the mesh, handed to the application with the client's address kept. */
import type { Socket } from 'node:net';
import { CulvertError } from '../base/errors.ts';
import type { Connection } from './connections.ts';
import { reset } from './copy.ts';
import type { Pod } from './pod.ts';
import { isIllegalPort } from './ports.ts';
import { remoteAddress } from './sockets.ts';

/** Never rejects. */
export async function servePlain(pod: Pod, socket: Socket): Promise<void> {
  socket.on('error', () => undefined);
  const src = remoteAddress(socket);
  const dst = pod.sockets.originalDestination(socket);
  if (isIllegalPort(dst.port)) {
    pod.access.refused({ direction: 'inbound', src, dst }, new CulvertError('SELF_CALL', 'attempted recursive call to ourselves'));
    socket.destroy();
    return;
  }
  let connection: Connection | undefined;
  try {
    const workload = await pod.workload();
    const { state } = pod;
    const service = state.serviceFor(workload, dst)?.hostname;
    const facts = {
      direction: 'inbound',
      protocol: 'TCP',
      src,
      dst,
      srcWorkload: state.byIp(src.ip),
      dstWorkload: workload,
      service,
    } as const;
    connection = pod.connections.open(facts, dst);
    const app = await pod.sockets.connect({ destination: dst, source: src.ip });
    if (socket.destroyed) reset(app);
    await connection.run(app, socket);
  } catch (error) {
    if (connection === undefined) pod.access.refused({ direction: 'inbound', src, dst }, error);
    else connection.end(error);
    reset(socket);
  }
}
