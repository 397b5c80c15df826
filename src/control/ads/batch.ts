/** Changes of one kind of resource that are pushed together. */
import type { ResourceChange } from '../resources.ts';

export class Batch {
  readonly changed = new Set<string>();
  /** those of `changed` that nobody was told of before */
  readonly added = new Set<string>();
  readonly removed = new Set<string>();
  /** the response that streams which get all of it share; made when the first one is written */
  encoded: { nonce: string; bytes: Buffer } | undefined;

  get empty(): boolean {
    return this.changed.size === 0 && this.removed.size === 0;
  }

  add({ changed, added, removed }: ResourceChange): void {
    for (const name of changed) {
      // What went and came back within the batch is known to the clients.
      if (!this.removed.delete(name) && added.has(name)) this.added.add(name);
      this.changed.add(name);
    }
    for (const name of removed) {
      this.changed.delete(name);
      // What came and went within the batch was never heard of.
      if (!this.added.delete(name)) this.removed.add(name);
    }
  }
}
