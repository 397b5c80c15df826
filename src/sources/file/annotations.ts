/**
 * The annotations file of one node, written by its agent alone: read once, changed in memory, written whole. Callers that ask
 * while a write is under way share the next one, so a hundred pods enrolled together cost a few fsyncs and not a hundred.
 */
import { readFile } from 'node:fs/promises';
import { writeAtomically } from '../../base/atomic-file.ts';
import { CulvertError, isSystem } from '../../base/errors.ts';
import { annotationsSchema, type AnnotationsDocument } from './schema.ts';

export class AnnotationsFile {
  readonly #path: string;
  /** @returns uids that still exist; entries of others are dropped when the file is written */
  readonly #living: () => ReadonlySet<string> | undefined;
  #content: Promise<AnnotationsDocument> | undefined;
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
    const entry = content[uid] ?? {};
    if (entry[key] !== value) {
      content[uid] = value === undefined ? Object.fromEntries(Object.entries(entry).filter(([other]) => other !== key)) : { ...entry, [key]: value };
      this.#dirty = true;
    }
    return this.#dirty ? this.#flush(content) : this.#writing;
  }

  #flush(content: AnnotationsDocument): Promise<void> {
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

  async #write(content: AnnotationsDocument): Promise<void> {
    const living = this.#living();
    for (const [uid, entry] of Object.entries(content)) {
      if (Object.keys(entry).length === 0 || (living !== undefined && !living.has(uid))) delete content[uid];
    }
    try {
      await writeAtomically(this.#path, `${JSON.stringify(content, undefined, 2)}\n`);
    } catch (error) {
      this.#dirty = true;
      throw new CulvertError('SYSTEM', `write annotations ${this.#path}`, error);
    }
  }

  async #read(): Promise<AnnotationsDocument> {
    try {
      return annotationsSchema.parse(JSON.parse(await readFile(this.#path, 'utf8')));
    } catch (error) {
      if (isSystem(error, 'ENOENT')) return {};
      // only this agent writes it, atomically: if it is damaged all the same, every pod's annotation is written anew anyway
      return {};
    }
  }
}
