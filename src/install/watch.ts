/** Tells of changes in directories, also when one comes later, goes, or another is put in its place. */
import { watch, type FSWatcher } from 'node:fs';

/**
 * inotify watches an inode: who holds a watch on a directory that was replaced hears nothing more. So the watches are set anew before
 * each look, and what happens after the look is heard.
 */
export class DirectoryWatches {
  readonly #paths: readonly string[];
  readonly #onChange: () => void;
  #watchers: FSWatcher[] = [];

  constructor(paths: readonly string[], onChange: () => void) {
    this.#paths = [...new Set(paths)];
    this.#onChange = onChange;
  }

  /** @returns the directories that can't be watched now; who waits for them must look again by himself */
  rearm(): string[] {
    this.close();
    return this.#paths.filter((path) => !this.#watch(path));
  }

  close(): void {
    for (const watcher of this.#watchers) watcher.close();
    this.#watchers = [];
  }

  #watch(path: string): boolean {
    try {
      const watcher = watch(path, () => this.#onChange());
      watcher.on('error', () => this.#onChange());
      this.#watchers.push(watcher);
      return true;
    } catch {
      return false;
    }
  }
}
