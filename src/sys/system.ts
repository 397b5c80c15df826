/** Errors of the kernel, said the way Culvert says things. */
import { CulvertError, describe, type ErrorCode } from '../base/errors.ts';

/** @param what "verb noun", as in "open netns /run/netns/x" */
export function systemError(what: string, cause: unknown, code: ErrorCode = 'SYSTEM'): CulvertError {
  return new CulvertError(code, `${what}: ${describe(cause)}`, cause);
}

/** Runs action. @throws CulvertError SYSTEM "what: cause" with errno and syscall; a CulvertError passes as it is */
export function attempt<T>(what: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw error instanceof CulvertError ? error : systemError(what, error);
  }
}
