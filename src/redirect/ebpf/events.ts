/**
 * The ring buffer. It is read all the time, so that what a watcher sees is what happens now; redirected and passed connections are
 * written into it only while somebody listens, each costs the kernel a write.
 */
import { decodeEvent, EVENT_CLASS, REASON, reasonOf, wire, type Event, type Maps } from '../../maps/index.ts';
import { native } from '../../sys/native.ts';
import type { DatapathEvent } from '../driver.ts';
import type { Settings } from './settings.ts';

const POLL_MS = 100;
/**
 * Who is told of a listener looks into the netns: not for each that an app starts one after the other, and not before a tunnel has set
 * the options that it sets after listen(2).
 */
const LOOK_MS = 500;
const APP_MARK = reasonOf(REASON.MISC_APP_MARK).name;
const TUNNELS = reasonOf(REASON.REG_LISTENER).name;
const REFUSED = EVENT_CLASS.EVENT_REFUSED;
const EVERYTHING = REFUSED | EVENT_CLASS.EVENT_REDIRECTED | EVENT_CLASS.EVENT_PASSED;

export interface EventStream {
  on(listener: (event: DatapathEvent) => void): { close(): void };
  close(): void;
}

/** @param onListener one with a mark of its own, or the tunnel's on 15001, started in this netns; told whether anybody listens or not */
export function openEvents(maps: Pick<Maps, 'events'>, settings: Settings, onListener: (cookie: bigint) => void): EventStream {
  const listeners = new Set<(event: DatapathEvent) => void>();
  const started = new Set<bigint>();
  let looking: NodeJS.Timeout | undefined;
  const look = (): void => {
    looking = undefined;
    const cookies = [...started];
    started.clear();
    for (const cookie of cookies) onListener(cookie);
  };
  const setMask = (): void => settings.set({ event_mask: listeners.size > 0 ? EVERYTHING : REFUSED });
  setMask(); // an agent that was killed may have left it wide
  const ring = native.bpfRingbuf(maps.events.fd, POLL_MS, (records) => {
    for (const event of records.map(decodeEvent)) {
      for (const listener of listeners) listener(event);
      if (isToBeLookedAt(event)) started.add(event.cookie);
    }
    if (started.size > 0) looking ??= setTimeout(look, LOOK_MS);
  });
  return {
    on: (listener) => {
      listeners.add(listener);
      setMask();
      return {
        close: () => {
          if (listeners.delete(listener)) setMask();
        },
      };
    },
    close: () => {
      clearTimeout(looking);
      listeners.clear();
      setMask();
      ring.close();
    },
  };
}

function isToBeLookedAt({ name, dst }: Event): boolean {
  return name === APP_MARK || (name === TUNNELS && dst.endsWith(`:${wire.PORT_OUTBOUND}`));
}
