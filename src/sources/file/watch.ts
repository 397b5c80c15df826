/**
 * Tells of changes to the mesh file and to the directory beside it. Directories are watched, not files: an atomic rename puts
 * another inode in the file's place. The directory may come later than the file.
 */
import { watch, type FSWatcher } from 'node:fs';
import { basename, dirname } from 'node:path';

const REARM_MS = 500;

/** @param onChange called once per burst, `debounceMs` after its first event at the earliest, so a stream of events can't starve it */
export function watchMesh(meshFile: string, directory: string, debounceMs: number, onChange: () => void): { close(): void } {
  let timer: NodeJS.Timeout | undefined;
  let closed = false;
  const changed = (): void => {
    timer ??= setTimeout(() => {
      timer = undefined;
      onChange();
    }, debounceMs);
  };
  const inner = new DirectoryWatch(directory, changed);
  const outer = new DirectoryWatch(dirname(meshFile), (name) => {
    if (name === basename(directory)) inner.arm(); // it came, or came back
    if (name === undefined || name === basename(meshFile) || name === basename(directory)) changed();
  });
  return {
    close() {
      if (closed) return;
      closed = true;
      clearTimeout(timer);
      inner.close();
      outer.close();
    },
  };
}

/** One directory's watch, set up again whenever it fails or the directory is not there (yet, or any more). */
class DirectoryWatch {
  readonly #path: string;
  readonly #onChange: (name: string | undefined) => void;
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /** @param onChange name of the entry that changed; undefined when anything may have changed */
  constructor(path: string, onChange: (name: string | undefined) => void) {
    this.#path = path;
    this.#onChange = onChange;
    this.arm();
  }

  /** @returns true when the watch stands */
  arm(): boolean {
    this.#watcher?.close();
    clearTimeout(this.#timer);
    if (this.#closed) return false;
    try {
      this.#watcher = watch(this.#path, (_event, name) => {
        this.#onChange(name ?? undefined);
      });
      this.#watcher.on('error', () => {
        this.#rearm();
      });
      return true;
    } catch {
      this.#rearm();
      return false;
    }
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#watcher?.close();
  }

  #rearm(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.arm()) this.#onChange(undefined); // what happened meanwhile went unseen
    }, REARM_MS);
  }
}
