/**
 * The annotations file of one node, written by its agent alone: read once, changed in memory, written whole. Callers that ask
 * while a write is under way share the next one, so a hundred pods enrolled together cost a few fsyncs and not a hundred.
 */
import { readFile } from 'node:fs/promises';
import { writeAtomically } from '../../base/atomic-file.ts';
import { CulvertError } from '../../base/errors.ts';
import { annotationsSchema } from './schema.ts';

/** Annotations by pod uid. */
type Content = Map<string, Record<string, string>>;

export class AnnotationsFile {
  readonly #path: string;
  /** @returns uids that still exist; entries of others are dropped when the file is written */
  readonly #living: () => ReadonlySet<string> | undefined;
  #content: Promise<Content> | undefined;
  /** true while memory holds what no finished or running write has */
  #dirty = false;
  #writing: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;

  constructor(path: string, living: () => ReadonlySet<string> | undefined) {
    this.#path = path;
    this.#living = living;
  }

  /** Durable when it resolves. @throws SYSTEM when the file can't be written; the change is kept and goes with the next write */
  async set(uid: string, key: string, value: string | undefined): Promise<void> {
    const content = await (this.#content ??= this.#read());
    const entry = content.get(uid) ?? {};
    if (entry[key] !== value) {
      const others = Object.fromEntries(Object.entries(entry).filter(([other]) => other !== key));
      content.set(uid, value === undefined ? others : { ...others, [key]: value });
      this.#dirty = true;
    }
    return this.#dirty ? this.#flush(content) : this.#writing;
  }

  #flush(content: Content): Promise<void> {
    this.#next ??= this.#writing
      .catch(() => undefined) // its callers were told
      .then(() => {
        this.#next = undefined;
        this.#dirty = false;
        this.#writing = this.#write(content);
        return this.#writing;
      });
    return this.#next;
  }

  async #write(content: Content): Promise<void> {
    const living = this.#living();
    for (const [uid, entry] of content) if (Object.keys(entry).length === 0 || living?.has(uid) === false) content.delete(uid);
    try {
      await writeAtomically(this.#path, `${JSON.stringify(Object.fromEntries(content), undefined, 2)}\n`);
    } catch (error) {
      this.#dirty = true;
      throw new CulvertError('SYSTEM', `write annotations ${this.#path}`, error);
    }
  }

  async #read(): Promise<Content> {
    try {
      return new Map(Object.entries(annotationsSchema.parse(JSON.parse(await readFile(this.#path, 'utf8')))));
    } catch {
      // not there yet. Damaged can't happen to a file with one, atomic writer; and if, every annotation is written anew at start
      return new Map();
    }
  }
}
