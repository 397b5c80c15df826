/**
 * The ring buffer. It is read all the time, so that what a watcher sees is what happens now; redirected and passed connections are
 * written into it only while somebody listens, each costs the kernel a write.
 */
import { decodeEvent, EVENT_CLASS, type Maps } from '../../maps/index.ts';
import { native } from '../../sys/native.ts';
import type { DatapathEvent } from '../driver.ts';

const POLL_MS = 100;
const REFUSED = EVENT_CLASS.EVENT_REFUSED;
const EVERYTHING = REFUSED | EVENT_CLASS.EVENT_REDIRECTED | EVENT_CLASS.EVENT_PASSED;

export interface EventStream {
  on(listener: (event: DatapathEvent) => void): { close(): void };
  close(): void;
}

export function openEvents(maps: Maps): EventStream {
  const listeners = new Set<(event: DatapathEvent) => void>();
  const setMask = (): void => maps.settings.set(0, { event_mask: listeners.size > 0 ? EVERYTHING : REFUSED });
  setMask(); // an agent that was killed may have left it wide
  const ring = native.bpfRingbuf(maps.events.fd, POLL_MS, (records) => {
    if (listeners.size === 0) return;
    for (const record of records) {
      const event = decodeEvent(record);
      for (const listener of listeners) listener(event);
    }
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
      listeners.clear();
      setMask();
      ring.close();
    },
  };
}
