/** What a `make test` that was killed could not remove: the temporary directory of its ring, and what clusters leave. */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sweep } from '../../test/support/cluster/sweep.ts';

/** Of the name of a ring's temporary directory: whose it is. */
export function ringDirectoryPrefix(): string {
  return `cvt-${String(process.pid)}-`;
}

export async function removeKilledRuns(): Promise<void> {
  if (process.getuid?.() === 0) await sweep();
  for (const name of readdirSync(tmpdir())) {
    const pid = /^cvt-(\d+)-\w{6}$/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) rmSync(join(tmpdir(), name), { recursive: true, force: true });
  }
}
