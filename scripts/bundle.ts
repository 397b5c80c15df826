/**
 * bundle.ts NAME [--verbose] makes build/NAME, one of culvert and culvert-cni: each is a copy of Node with one bundle of ours
 * inside (a single executable application). The first also carries the addon and the BPF object as assets; the plugin's is the plugin
 * and nothing else, because it starts once per pod, and it exits without taking its V8 down. Code cache is on in both: it is why the
 * bundles are CommonJS. (A start-up snapshot with node:net in it was slower for the plugin: 1.22 times bare Node against 1.12.)
 * The plugin's V8 is told to do without what pays off later in a life than it has; that is worth a sixth of its start.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';
import { inject } from 'postject';

const SENTINEL = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2';
const OUT = 'build/bundle';

/** The plots of a benchmark's report: a bundle of its own among the assets, so that no other command starts slower for it. */
const VEGA = './src/bench/report/plots/vega.ts';

interface Executable {
  /** Source of the entry module, resolved from the top of the tree. */
  entry: string;
  /** Asset name → file, read at run time through node:sea. */
  assets: Record<string, string>;
  /** Name → module: assets that are bundles themselves, and not part of the main one. */
  bundled: Record<string, string>;
  /** Options that it starts with; NODE_OPTIONS of its environment then counts no more. */
  execArgv: string[];
}

const EXECUTABLES: Readonly<Record<string, Executable>> = {
  culvert: {
    entry: `import './src/main.ts';`,
    assets: { 'culvert.node': 'build/addon/culvert.node', 'culvert.bpf.o': 'build/bpf/culvert.bpf.o', 'vega.cjs': `${OUT}/vega.cjs` },
    bundled: { vega: VEGA },
    execArgv: [],
  },
  'culvert-cni': {
    entry: `import { runPlugin } from './src/cni/main.ts'; void runPlugin().then((code) => process.exit(code));`,
    assets: {},
    bundled: {},
    execArgv: [
      // Hash seeds of its own for every process would rehash all of Node's heap; what the plugin reads comes from root.
      '--no-rehash-snapshot',
      // No compiler and collector threads beside the one that works.
      '--single-threaded',
      '--no-opt',
      // All of the bundle into the code cache, or what is first called at run time is compiled then.
      '--no-lazy',
      // What it writes to stderr is for the runtime's log; src/cni/unix-socket.ts says what is meant.
      '--no-deprecation',
    ],
  },
};

async function bundle(name: string, entry: string, external: string[] = []): Promise<string> {
  const file = `${OUT}/${name}.cjs`;
  await build({
    stdin: { contents: entry, resolveDir: process.cwd(), sourcefile: `${name}.ts`, loader: 'ts' },
    outfile: file,
    bundle: true,
    external,
    platform: 'node',
    format: 'cjs',
    target: 'node24',
    minifySyntax: true,
    minifyWhitespace: true,
    keepNames: true,
    legalComments: 'none',
    // Its module for Node asks for the package canvas at its top level, which CommonJS cannot; the other one does the same without.
    alias: { 'vega-canvas': resolve('node_modules/vega-canvas/build/vega-canvas.browser.js') },
    // src/sys/assets.ts, its only user (lint), knows that it is empty in CommonJS.
    logOverride: { 'empty-import-meta': 'silent' },
    logLevel: 'warning',
  });
  return file;
}

/** Replaces build/NAME only when the new one is complete, so that a running copy and an interrupted build do no harm. */
async function seal(name: string, main: string, { assets, execArgv }: Executable): Promise<void> {
  const blob = `${OUT}/${name}.blob`;
  const config = `${OUT}/${name}.json`;
  const options = execArgv.length > 0 ? { execArgv, execArgvExtension: 'none' } : {};
  const content = { main, output: blob, disableExperimentalSEAWarning: true, useCodeCache: true, assets, ...options };
  writeFileSync(config, JSON.stringify(content));
  // V8 takes a code cache only where it runs with the options that it was made with.
  execFileSync(process.execPath, [...execArgv, '--experimental-sea-config', config], { stdio: verbose ? 'inherit' : 'pipe' });
  const next = `${OUT}/${name}.next`;
  rmSync(next, { force: true });
  copyFileSync(process.execPath, next);
  chmodSync(next, 0o755);
  await inject(next, 'NODE_SEA_BLOB', readFileSync(blob), { sentinelFuse: SENTINEL });
  renameSync(next, `build/${name}`);
}

const { values, positionals } = parseArgs({ allowPositionals: true, options: { verbose: { type: 'boolean', default: false } } });
const verbose = values.verbose;
const name = positionals[0] ?? '';
const executable = EXECUTABLES[name];
if (executable === undefined) throw new Error(`no executable is called '${name}': ${Object.keys(EXECUTABLES).join(', ')}`);
// postject's ELF library complains harmlessly about sections of Node's own.
if (!verbose) console.warn = (): void => undefined;
mkdirSync(OUT, { recursive: true });
const bundled = Object.entries(executable.bundled);
for (const [asset, module] of bundled) await bundle(asset, `export * from '${module}';`);
const apart = bundled.map(([, module]) => module);
await seal(name, await bundle(name, executable.entry, apart), executable);
