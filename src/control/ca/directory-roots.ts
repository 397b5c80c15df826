/** A lab's root: two files in one directory, read at the start and again whenever they change. */
import { unwatchFile, watchFile } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CulvertError, describe } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { CA_CERT, CA_KEY, readMaterial, type CaMaterial } from './material.ts';

const CHECK_MS = 1000;

export interface DirectoryRootsOptions {
  /** with ca.crt and ca.key */
  dir: string;
  log: Logger;
  /** how often the files are looked at */
  checkMs?: number;
}

export class DirectoryRoots {
  readonly #options: DirectoryRootsOptions;
  readonly #listeners = new Set<(material: CaMaterial) => void>();
  readonly #paths: readonly string[];
  readonly #changed = (): void => void this.#read();
  #material: CaMaterial;
  #reading = 0;

  /** @throws CERTIFICATE */
  static async open(options: DirectoryRootsOptions): Promise<DirectoryRoots> {
    return new DirectoryRoots(options, await readDirectory(options.dir));
  }

  private constructor(options: DirectoryRootsOptions, material: CaMaterial) {
    this.#options = options;
    this.#material = material;
    this.#paths = pathsOf(options.dir);
    // Looking at the files finds every kind of change: written, renamed over, a mount swapped.
    for (const path of this.#paths) watchFile(path, { interval: options.checkMs ?? CHECK_MS, persistent: false }, this.#changed);
  }

  get material(): CaMaterial {
    return this.#material;
  }

  onMaterial(listener: (material: CaMaterial) => void): { close(): void } {
    this.#listeners.add(listener);
    return { close: () => this.#listeners.delete(listener) };
  }

  close(): void {
    this.#reading++;
    for (const path of this.#paths) unwatchFile(path, this.#changed);
  }

  async #read(): Promise<void> {
    const reading = ++this.#reading;
    try {
      const material = await readDirectory(this.#options.dir);
      if (reading !== this.#reading) return;
      this.#material = material;
      for (const listener of [...this.#listeners]) listener(material);
    } catch (error) {
      // Also between the writing of the one file and the other; the second one's change follows.
      if (reading === this.#reading) this.#options.log.error({ err: error }, `CA stays as it was: ${describe(error)}`);
    }
  }
}

function pathsOf(dir: string): [certificate: string, key: string] {
  return [join(dir, 'ca.crt'), join(dir, 'ca.key')];
}

async function readDirectory(dir: string): Promise<CaMaterial> {
  const [certificate, key] = await Promise.all(
    pathsOf(dir).map((path) =>
      readFile(path, 'utf8').catch((error: unknown) => {
        throw new CulvertError('CERTIFICATE', `read CA ${path}`, error);
      }),
    ),
  );
  return readMaterial(`directory ${dir} (ca.crt, ca.key)`, { [CA_CERT]: certificate, [CA_KEY]: key });
}
