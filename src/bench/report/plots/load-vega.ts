/**
 * Vega is a quarter as large as all the rest of this program, and only a report's page needs it: in the executable it lies beside the
 * program as an asset, so that no other command starts slower for it.
 */
import { compileFunction } from 'node:vm';
import { executableAsset } from '../../../sys/assets.ts';

type Vega = typeof import('./vega.ts');

/** Its name among the executable's assets; scripts/bundle.ts makes it of vega.ts. */
const ASSET = 'vega.cjs';

let loaded: Promise<Vega> | undefined;

export function loadVega(): Promise<Vega> {
  loaded ??= load();
  return loaded;
}

async function load(): Promise<Vega> {
  const asset = executableAsset(ASSET);
  if (asset === undefined) return import('./vega.ts');
  const module: { exports: unknown } = { exports: {} };
  const text = Buffer.from(asset).toString('utf8');
  // Its loader asks for node:fs when it starts, and is never used: the data are in the specification.
  const builtin = (name: string): unknown => process.getBuiltinModule(name);
  const run = compileFunction(text, ['module', 'require'], { filename: ASSET }) as (of: typeof module, require: typeof builtin) => void;
  run(module, builtin);
  return module.exports as Vega;
}
