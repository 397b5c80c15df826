/** The plugin's executable in the runtime's plugin directory. */
import { open, stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { CulvertError, isSystem } from '../base/errors.ts';
import { PLUGIN_TYPE } from './conflist.ts';
import { place, removeFile } from './place.ts';

const MODE = 0o755;
const CHUNK = 1 << 20;

/** What identifies a content without reading it; a hundred megabytes are not compared at every event of the directory. */
type Stamp = string;

export class Executable {
  readonly path: string;
  readonly #source: string;
  /** of source and target, taken before they were last found the same */
  #proven: Stamp | undefined;

  constructor(source: string, binDir: string) {
    this.#source = source;
    this.path = join(binDir, PLUGIN_TYPE);
  }

  /** @returns true when it had to be written. @throws SYSTEM */
  async install(): Promise<boolean> {
    if (await this.#isThere()) return false;
    await place(this.path, { copyOf: this.#source }, MODE);
    this.#proven = undefined; // the next look compares once: somebody may write into it right now
    return true;
  }

  async #isThere(): Promise<boolean> {
    const stamp = await this.#stamp();
    if (stamp === undefined) return false;
    if (stamp !== this.#proven && !(await sameBytes(this.#source, this.path))) return false;
    this.#proven = stamp;
    return true;
  }

  /** undefined when the target is missing or can't be the same, by size and mode */
  async #stamp(): Promise<Stamp | undefined> {
    const source = await stat(this.#source).catch((error: unknown) => {
      throw new CulvertError('SYSTEM', `read the plugin's executable ${this.#source}`, error);
    });
    try {
      const target = await stat(this.path);
      if (!target.isFile() || target.size !== source.size || (target.mode & 0o7777) !== MODE) return undefined;
      return [source, target].map(({ dev, ino, mtimeMs, ctimeMs }) => [dev, ino, mtimeMs, ctimeMs].join(':')).join(' ');
    } catch (error) {
      if (isSystem(error, 'ENOENT') || isSystem(error, 'ELOOP') || isSystem(error, 'ENOTDIR')) return undefined;
      throw new CulvertError('SYSTEM', `read ${this.path}`, error);
    }
  }
}

/** @returns false when it was not there. @throws SYSTEM */
export function removeExecutable(binDir: string): Promise<boolean> {
  return removeFile(join(binDir, PLUGIN_TYPE));
}

async function sameBytes(a: string, b: string): Promise<boolean> {
  const left = await open(a);
  try {
    const right = await open(b);
    try {
      return await sameContent(left, right);
    } finally {
      await right.close();
    }
  } finally {
    await left.close();
  }
}

async function sameContent(left: FileHandle, right: FileHandle): Promise<boolean> {
  const [one, other] = [Buffer.allocUnsafe(CHUNK), Buffer.allocUnsafe(CHUNK)];
  for (let at = 0; ; at += CHUNK) {
    const length = await fill(one, left, at);
    if (length !== (await fill(other, right, at)) || one.compare(other, 0, length, 0, length) !== 0) return false;
    if (length < CHUNK) return true;
  }
}

/** @returns how much of `buffer` the file filled; less than all of it at its end */
async function fill(buffer: Buffer, file: FileHandle, at: number): Promise<number> {
  let length = 0;
  while (length < buffer.length) {
    const { bytesRead } = await file.read(buffer, length, buffer.length - length, at + length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return length;
}
