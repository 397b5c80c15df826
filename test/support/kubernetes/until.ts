/** Waiting for what no event tells of: asked again until it is so. */
import { setTimeout } from 'node:timers/promises';

const STEP_MS = 25;

/** @throws when it is not so after `ms`, which says nothing of how fast it should be; what the test waited for is in the message */
export async function until(what: string, ask: () => boolean | Promise<boolean>, ms = 60_000): Promise<void> {
  const deadline = performance.now() + ms;
  while (!(await ask())) {
    if (performance.now() > deadline) throw new Error(`waited ${ms / 1000} s in vain for ${what}`);
    await setTimeout(STEP_MS);
  }
}
