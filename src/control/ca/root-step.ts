/** One step of a root's rotation, carried out on its Secret. Doing it twice is refused by the Secret's version. */
import { randomBytes } from 'node:crypto';
import { createRoot, ROOT_LIFETIME_MS } from '../../identity/root.ts';
import type { KubeApi, KubeObject } from '../../kubernetes/api.ts';
import { datePhase, dropPrevious, introduce, readCaSecret, rotationOf, secretPath, switchRoot } from './root-secret.ts';
import { nextStep, type RotationStep } from './rotation.ts';

export interface RotationOptions {
  /** of new roots, ms; default ten years */
  rootLifetimeMs?: number;
  /** between two steps, ms, unless certificates of longer life were handed out: then that long */
  overlapMs: number;
  /** share of the root's life that is left when rotation begins; default a fifth */
  remaining?: number;
}

const REMAINING = 0.2;

type StepDone = Exclude<RotationStep, { step: 'none' }>;

/**
 * @returns what was done; undefined: nothing was due
 * @throws KUBERNETES (409: somebody changed the Secret meanwhile), CERTIFICATE when the outcome could not be used: then nothing is written
 */
export async function advanceRotation(
  api: KubeApi,
  namespace: string,
  secret: KubeObject,
  { rootLifetimeMs = ROOT_LIFETIME_MS, overlapMs, remaining = REMAINING }: RotationOptions,
): Promise<StepDone | undefined> {
  const now = Date.now();
  const next = nextStep(rotationOf(secret), { overlapMs, remaining }, now);
  if (next.step === 'none') return undefined;
  const changed = await change(secret, next.step, rootLifetimeMs, now);
  await readCaSecret(changed, now);
  await api.replace(secretPath(namespace, secret.metadata.name), changed);
  return next;
}

async function change(secret: KubeObject, step: StepDone['step'], rootLifetimeMs: number, now: number): Promise<KubeObject> {
  switch (step) {
    case 'introduce':
      return introduce(secret, await createRoot({ name: rootName(), lifetimeMs: rootLifetimeMs, now }), now);
    case 'switch':
      return switchRoot(secret, now);
    case 'drop':
      return dropPrevious(secret);
    case 'date':
      return datePhase(secret, now);
  }
}

/** Each root has a name of its own, so that no verifier takes one for the other. */
export function rootName(): string {
  return `Culvert root ${randomBytes(4).toString('hex')}`;
}
