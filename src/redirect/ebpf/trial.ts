/**
 * A connection of the agent's own from the node to a pod, made to learn with which source the node's connections arrive there. The
 * pod's sk_lookup program notes the source and refuses the connection: neither app nor tunnel sees it.
 */
import { systemCause } from '../../base/errors.ts';
import { wire, type Maps } from '../../maps/index.ts';
import { native } from '../../sys/native.ts';

export interface Trial {
  /** the node's end as its own kernel has it */
  sent: End;
  /** as it arrived in the pod */
  arrived: End;
}
interface End {
  address: string;
  port: number;
}

/** A first SYN that is lost is sent again after a second. */
const TIMEOUT_MS = 2500;

/**
 * @param address of the pod, as the maps write it
 * @param isClosed asked after every wait: the maps may be gone by then
 * @returns undefined when nothing arrived: no route, or the node may not speak to this port of the pod
 * @throws CulvertError MAP_FULL, SYSTEM
 */
export async function tryPod(
  maps: Pick<Maps, 'trials'>,
  nodeFd: number,
  cookie: bigint,
  address: string,
  isClosed: () => boolean,
): Promise<Trial | undefined> {
  const key = { cookie, addr: address };
  maps.trials.set(key, { src: '::', sport: 0, seen: 0 });
  const sent = await connect(nodeFd, address);
  if (isClosed()) return undefined; // the next start takes the entry away
  const arrival = maps.trials.get(key);
  maps.trials.delete(key);
  if (sent === undefined || arrival === undefined || arrival.seen === 0) return undefined;
  return { sent, arrived: { address: arrival.src, port: arrival.sport } };
}

/** @returns our end, also and above all when the connection was refused; undefined when no SYN went out */
async function connect(nodeFd: number, address: string): Promise<End | undefined> {
  try {
    const fd = await native.netnsConnect(nodeFd, {
      family: address.includes(':') ? 6 : 4,
      type: 'tcp',
      destination: { address, port: wire.PORT_TRIAL },
      timeoutMs: TIMEOUT_MS,
    });
    try {
      return native.socketNames(fd).local;
    } finally {
      native.closeFd(fd);
    }
  } catch (error) {
    if (systemCause(error).errno === undefined) throw error;
    return (error as { local?: End }).local;
  }
}
