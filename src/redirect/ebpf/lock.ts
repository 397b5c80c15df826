/**
 * One agent per pin directory. The lock is a socket of ours in the SOCKHASH `listeners`, under the key of no netns (cookie 0): the
 * kernel inserts it atomically and takes it out when the process dies, however it dies. No file, no pid to guess about.
 */
import { CulvertError, isSystem } from '../../base/errors.ts';
import { native } from '../../sys/native.ts';

/** struct listener_key {0, 0, 0}: netns cookies start at 1 */
const KEY = new Uint8Array(16);
const BPF_NOEXIST = 1;

/**
 * @param netnsFd netns the socket is made in; it is a UDP socket on the loopback address that nobody is told of
 * @throws CulvertError PIN_BUSY when another agent runs on this pin directory
 */
export function lockPins(listenersFd: number, netnsFd: number, pinDir: string): { close(): void } {
  const fd = native.netnsSocket(netnsFd, { family: 4, type: 'udp', freebind: true, bind: { address: '127.0.0.1', port: 0 } });
  try {
    const value = new Uint8Array(8);
    new DataView(value.buffer).setUint32(0, fd, true);
    native.bpfMap(listenersFd).update(KEY, value, BPF_NOEXIST);
  } catch (error) {
    native.closeFd(fd);
    if (isSystem(error, 'EEXIST')) throw new CulvertError('PIN_BUSY', `lock ${pinDir}: another agent runs on it`, error);
    throw error;
  }
  let open = true;
  return {
    close: () => {
      if (open) native.closeFd(fd);
      open = false;
    },
  };
}
