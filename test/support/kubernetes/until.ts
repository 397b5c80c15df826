/** Waiting for what no event tells of: asked again until it is so, the less often the longer it takes, since asking costs as well. */
import { setTimeout } from 'node:timers/promises';

const FIRST_PAUSE_MS = 25;
const LONGEST_PAUSE_MS = 250;

/** @throws when it is not so after `ms`, which says nothing of how fast it should be; what the test waited for is in the message */
export async function until(what: string, ask: () => boolean | Promise<boolean>, ms = 60_000): Promise<void> {
  const began = performance.now();
  while (!(await ask())) {
    const waited = performance.now() - began;
    if (waited > ms) throw new Error(`waited ${ms / 1000} s in vain for ${what}`);
    await setTimeout(Math.min(LONGEST_PAUSE_MS, Math.max(FIRST_PAUSE_MS, waited / 20)));
  }
}
