/** Where the plugins' programs are: ours in the lab's own directory, the others where distributions put them. */
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CulvertError } from '../../base/errors.ts';
import { builtPlugin, selfCommand } from '../self.ts';

const SYSTEM_DIRECTORIES = ['/usr/lib/cni', '/opt/cni/bin', '/usr/libexec/cni'];

/** CNI_PATH of the lab. @throws CulvertError LAB when the reference plugins are not installed */
export function cniPath(bin: string): string[] {
  const path = [bin, ...SYSTEM_DIRECTORIES.filter((directory) => existsSync(directory))];
  for (const plugin of ['bridge', 'host-local']) findPlugin(plugin, path);
  return path;
}

/** @throws CulvertError LAB */
export function findPlugin(type: string, path: string[]): string {
  const found = path.map((directory) => join(directory, type)).find((file) => existsSync(file));
  if (found === undefined) {
    throw new CulvertError(
      'LAB',
      `find CNI plugin ${type}: it is in none of ${[...path, ...SYSTEM_DIRECTORIES].join(', ')}; on Debian: apt-get install containernetworking-plugins`,
    );
  }
  return found;
}

/** Puts culvert-cni into `bin`: a link to the built one, or a script that starts this tree. */
export function installPlugin(bin: string): void {
  mkdirSync(bin, { recursive: true });
  const target = join(bin, 'culvert-cni');
  const built = builtPlugin();
  if (built !== undefined) symlinkSync(built, target);
  else writeFileSync(target, `#!/bin/sh\nexec ${selfCommand().map(quote).join(' ')}\n`, { mode: 0o755 });
}

function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
