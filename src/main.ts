/**
 * Multi-call entry: with CNI_COMMAND set, or started under the name culvert-cni, this is the plugin, else the command line. Both
 * are imported lazily, because the plugin runs once per pod and must not load what it does not use.
 */
import { basename } from 'node:path';

const calledAs = basename(process.argv[1] ?? '');

/** No top-level await: the plugin's bundle is CommonJS. */
async function main(): Promise<number> {
  if (process.env['CNI_COMMAND'] !== undefined || calledAs === 'culvert-cni') {
    const { runPlugin } = await import('./cni/main.ts');
    return runPlugin();
  }
  const { runCli } = await import('./cli/main.ts');
  return runCli(process.argv.slice(2));
}

void main().then((code) => {
  process.exitCode = code;
});
