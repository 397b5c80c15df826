/**
 * dlopen(3) needs a file, so the addon inside the single executable is unpacked once per version, into a directory that nobody
 * else can write to: whoever could replace the file would run code as root.
 */
import { createHash, randomUUID } from 'node:crypto';
import { chmodSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** Where to unpack to, best first. The last is a new private directory and works wherever the temporary directory does. */
export function cacheRoots(env: NodeJS.ProcessEnv = process.env): string[] {
  const own = env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache');
  return ['/var/cache/culvert', join(own, 'culvert')];
}

/**
 * Path of a file with exactly these bytes under one of the roots.
 * @param onFailure told about each root that could not be used, and why
 */
export function unpack(name: string, content: Uint8Array, roots: string[], onFailure: (root: string, error: unknown) => void): string {
  const hash = createHash('sha256').update(content).digest('hex');
  for (const root of roots) {
    try {
      return place(join(root, hash), name, content);
    } catch (error) {
      onFailure(root, error);
    }
  }
  return place(mkdtempSync(join(tmpdir(), 'culvert-')), name, content);
}

function place(directory: string, name: string, content: Uint8Array): string {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  requirePrivate(dirname(directory), directory);
  const path = join(directory, name);
  if (holds(path, content)) return path;
  // Another process may be doing the same: both write their own file, and the last rename wins with the same bytes.
  const temporary = join(directory, `.${name}.${randomUUID()}`);
  try {
    writeFileSync(temporary, content, { mode: 0o500, flag: 'wx' });
    chmodSync(temporary, 0o500);
    renameSync(temporary, path);
  } finally {
    rmSync(temporary, { force: true });
  }
  return path;
}

/** The directory is ours alone; its parent may be a sticky one like /tmp. */
function requirePrivate(parent: string, directory: string): void {
  for (const path of [parent, directory]) {
    const stat = lstatSync(path);
    if (!stat.isDirectory()) throw new Error(`${path} is no directory`);
    if (stat.uid !== process.getuid?.() && stat.uid !== 0) throw new Error(`${path} belongs to uid ${String(stat.uid)}`);
    const sticky = path === parent && (stat.mode & 0o1000) !== 0;
    if ((stat.mode & 0o022) !== 0 && !sticky)
      throw new Error(`${path} can be written by others (mode ${(stat.mode & 0o7777).toString(8)})`);
  }
}

function holds(path: string, content: Uint8Array): boolean {
  try {
    const stat = lstatSync(path);
    if (!stat.isFile() || stat.uid !== process.getuid?.() || (stat.mode & 0o022) !== 0) return false;
    return readFileSync(path).equals(content);
  } catch {
    return false;
  }
}
