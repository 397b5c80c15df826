/** culvert-cni: the plugin process. One verb per run; the answer or the error object goes to stdout, remarks to stderr. */
import { fstatSync, readFileSync, readSync, writeSync } from 'node:fs';
import { isatty } from 'node:tty';
import { CniError, cniCode, currentVersion, supportedVersions } from './spec.ts';
import { defaultDeadlines, runVerb } from './verbs.ts';

const MAX_STDIN = 1 << 20;

/** Runs the verb of CNI_COMMAND. @returns the exit code */
export async function runPlugin(): Promise<number> {
  let stdin: string | undefined;
  const readStdin = (): string => (stdin ??= readAll());
  try {
    const answer = await runVerb({
      env: process.env,
      stdin: readStdin,
      readFile: (path) => readFileSync(path, 'utf8'),
      note: (line) => {
        process.stderr.write(`culvert-cni: ${line}\n`);
      },
      deadlines: defaultDeadlines,
    });
    write(answer);
    return 0;
  } catch (error) {
    const known =
      error instanceof CniError ? error : new CniError(cniCode.internal, `run ${process.env['CNI_COMMAND'] ?? 'plugin'}: ${String(error)}`);
    write(
      JSON.stringify({
        cniVersion: versionOf(stdin),
        code: known.code,
        msg: known.message,
        ...(known.details === '' ? {} : { details: known.details }),
      }),
    );
    return 1;
  }
}

/** The error object speaks the caller's version where that is known. */
function versionOf(stdin: string | undefined): string {
  try {
    const { cniVersion } = JSON.parse(stdin ?? '') as { cniVersion?: unknown };
    return supportedVersions.find((version) => version === cniVersion) ?? currentVersion;
  } catch {
    return currentVersion;
  }
}

/** Stdin to its end. Read synchronously: the stream classes would cost more start-up time than everything else here. */
function readAll(): string {
  if (isatty(0)) return '';
  const chunks: Buffer[] = [];
  let length = 0;
  for (;;) {
    const chunk = Buffer.allocUnsafe(fstatSync(0).isFile() ? MAX_STDIN : 65_536);
    const count = readChunk(chunk);
    if (count === 0) return Buffer.concat(chunks).toString('utf8');
    chunks.push(chunk.subarray(0, count));
    length += count;
    if (length > MAX_STDIN) throw new CniError(cniCode.decodeFailure, 'decode stdin: it is larger than 1 MiB');
  }
}

/** A non-blocking pipe answers EAGAIN while the runtime is still writing. */
function readChunk(chunk: Buffer): number {
  for (;;) {
    try {
      return readSync(0, chunk);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === 'EOF') return 0;
      if (code !== 'EAGAIN') throw new CniError(cniCode.ioFailure, `read stdin: ${String(error)}`);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}

function write(text: string): void {
  if (text === '') return;
  const bytes = Buffer.from(`${text}\n`);
  for (let at = 0; at < bytes.length;) at += writeSync(1, bytes, at);
}
