/**
 * A connection of the agent's own from the node to a pod, made to learn with which source the node's connections arrive there. The
 * pod's sk_lookup program notes the source and refuses the connection: neither app nor tunnel sees it.
 */
import { isSystem, systemCause } from '../../base/errors.ts';
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
 * Anybody may send to the trial's port with any source, and the exemption that follows from an arrival is worth forging. What arrived
 * counts only when it can be nobody else's: ours did arrive, since it was refused, and nothing else did.
 * @param address of the pod, as the maps write it
 * @param isClosed asked after every wait: the maps may be gone by then
 * @returns undefined when nothing of ours arrived (no route, or the node may not speak to this port of the pod), or others' as well
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
  if (sent === undefined || arrival?.seen !== 1) return undefined;
  return { sent, arrived: { address: arrival.src, port: arrival.sport } };
}

/** @returns our end of a connection that was refused; undefined when it was not: then it did not reach the pod's program */
async function connect(nodeFd: number, address: string): Promise<End | undefined> {
  try {
    const fd = await native.netnsConnect(nodeFd, {
      family: address.includes(':') ? 6 : 4,
      type: 'tcp',
      destination: { address, port: wire.PORT_TRIAL },
      timeoutMs: TIMEOUT_MS,
    });
    native.closeFd(fd);
    return undefined;
  } catch (error) {
    if (systemCause(error).errno === undefined) throw error;
    return isSystem(error, 'ECONNREFUSED') ? (error as { local?: End }).local : undefined;
  }
}
