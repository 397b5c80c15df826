/**
 * Finds and loads the native addon and the BPF object. The only importer of the addon; it is loaded at the first use, so that
 * commands which need no kernel work without it.
 */
import { constants } from 'node:os';
import { readFileSync } from 'node:fs';
import { CulvertError, describe } from '../base/errors.ts';
import { builtFile, executableAsset } from './assets.ts';
import { cacheRoots, unpack } from './unpack.ts';

export type * from '../../addon/index.d.ts';

export type Native = typeof import('../../addon/index.d.ts');

let loaded: Native | undefined;

/** The addon. @throws CulvertError NATIVE_LOAD at the first use of any of its functions, naming every attempt */
export const native: Native = new Proxy({} as Native, {
  get: (_target, name) => Reflect.get((loaded ??= load()), name) as unknown,
  has: (_target, name) => Reflect.has((loaded ??= load()), name),
});

/** The compiled BPF programs. @throws CulvertError NATIVE_LOAD naming every attempt */
export function bpfObject(env: NodeJS.ProcessEnv = process.env): Uint8Array {
  const attempts = new Attempts('read BPF object');
  for (const path of candidates(env['CULVERT_BPF_OBJECT'], 'bpf/culvert.bpf.o')) {
    const content = attempts.try(path, () => readFileSync(path));
    if (content !== undefined) return content;
  }
  const asset = executableAsset('culvert.bpf.o');
  if (asset !== undefined) return asset;
  throw attempts.error('build it with `make bpf`, or name it in CULVERT_BPF_OBJECT');
}

function load(env: NodeJS.ProcessEnv = process.env): Native {
  const attempts = new Attempts('load native addon');
  for (const path of candidates(env['CULVERT_ADDON'], 'addon/culvert.node')) {
    const addon = attempts.try(path, () => open(path));
    if (addon !== undefined) return addon;
  }
  const asset = executableAsset('culvert.node');
  if (asset !== undefined) {
    const addon = attempts.try('asset culvert.node', () =>
      open(unpack('culvert.node', asset, cacheRoots(env), (root, error) => attempts.note(root, error))),
    );
    if (addon !== undefined) return addon;
  }
  throw attempts.error('build it with `make addon`, name it in CULVERT_ADDON, and install libelf1 and libmnl0 where it is used');
}

/** A path asked for by name is the only candidate: silently taking another build would mislead whoever named it. */
function candidates(named: string | undefined, built: string): string[] {
  if (named !== undefined && named !== '') return [named];
  const path = builtFile(built);
  return path === undefined ? [] : [path];
}

function open(path: string): Native {
  const module = { exports: {} as Native };
  // Bind everything now: a missing symbol is an error here, not a crash in the middle of an enrolment.
  process.dlopen(module, path, constants.dlopen.RTLD_NOW);
  return module.exports;
}

class Attempts {
  readonly #what: string;
  readonly #failures: string[] = [];
  #cause: unknown;

  constructor(what: string) {
    this.#what = what;
  }

  try<T>(where: string, action: () => T): T | undefined {
    try {
      return action();
    } catch (error) {
      this.note(where, error);
      return undefined;
    }
  }

  note(where: string, error: unknown): void {
    this.#cause ??= error;
    const reason = describe(error);
    this.#failures.push(reason.includes(where) ? reason : `${where}: ${reason}`);
  }

  error(remedy: string): CulvertError {
    const tried = this.#failures.length === 0 ? 'there is nowhere to look' : this.#failures.join('; ');
    return new CulvertError('NATIVE_LOAD', `${this.#what}: ${tried} (remedy: ${remedy})`, this.#cause);
  }
}
