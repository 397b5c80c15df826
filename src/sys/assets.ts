/** Files that come with the program: beside the sources while developing, inside the executable once it is built. */
import * as sea from 'node:sea';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Path in the source tree's `build/`; undefined in a bundle, where the sources' place means nothing. */
export function builtFile(relative: string): string | undefined {
  // CommonJS bundles have an empty import.meta.
  const url = (import.meta as { url?: string }).url;
  if (url === undefined || sea.isSea()) return undefined;
  return fileURLToPath(new URL(`../../build/${relative}`, url));
}

/** Bytes of an asset of the single executable, copied; undefined when this is not one or lacks it. */
export function executableAsset(name: string): Uint8Array | undefined {
  if (!sea.isSea()) return undefined;
  try {
    return new Uint8Array(sea.getAsset(name));
  } catch {
    return undefined;
  }
}

/** The plugin's executable that was built with this program: it lies beside it. */
export function builtPlugin(): string {
  return builtFile('culvert-cni') ?? join(dirname(process.execPath), 'culvert-cni');
}
