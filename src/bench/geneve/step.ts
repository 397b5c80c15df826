/** One step of a set-up, and back. */
import { must } from '../../lab/command.ts';
import { inNetns } from '../../lab/network/netns.ts';

export interface Step {
  apply(): Promise<void>;
  /** Tries everything whatever is refused, so that it also serves after half an `apply`. @throws the first refusal */
  revert(): Promise<void>;
}

/** Applies the step and leaves the way back on the stack; a step that is refused half-way is reverted at once. */
export async function take(undo: AsyncDisposableStack, step: Step): Promise<void> {
  try {
    await step.apply();
  } catch (error) {
    await step.revert().catch(() => undefined); // of what was not applied nothing can be reverted; the refusal is the one to tell
    throw error;
  }
  undo.defer(() => step.revert());
}

/** Every action in order. @throws the first one's error when all were tried */
export async function all(...actions: (() => Promise<void>)[]): Promise<void> {
  const errors: unknown[] = [];
  for (const action of actions) await action().catch((error: unknown) => errors.push(error));
  if (errors.length > 0) throw errors[0];
}

/** Several `ip` commands, all of them tried. @throws CulvertError LAB when one was refused */
export async function ipEach(netns: string, commands: readonly string[]): Promise<void> {
  await must(inNetns(netns, ['ip', '-force', '-batch', '-']), { input: `${commands.join('\n')}\n` });
}
