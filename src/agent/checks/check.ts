/** One thing that must be so for the mesh to work on this node: what `culvert doctor` lists, and what the agent refuses to start without. */
import { describe } from '../../base/errors.ts';

export interface Check {
  name: string;
  ok: boolean;
  /** what is so, or what is not */
  detail: string;
  /** what to do; "" when it is well */
  remedy: string;
}

/** Thrown by who looks. */
export class Fault extends Error {
  readonly remedy: string;

  constructor(detail: string, remedy: string) {
    super(detail);
    this.remedy = remedy;
  }
}

/**
 * @param look answers with what is so; throws a Fault, or anything else when it could not be seen
 * @param otherwise what to do when it could not be seen
 */
export async function judge(name: string, look: () => string | Promise<string>, otherwise = 'see the detail'): Promise<Check> {
  try {
    return { name, ok: true, detail: await look(), remedy: '' };
  } catch (error) {
    return { name, ok: false, detail: describe(error), remedy: error instanceof Fault ? error.remedy : otherwise };
  }
}
