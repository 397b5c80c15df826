/**
 * culvert-cni: the plugin process. One verb per run; the answer or the error object goes to stdout, remarks to stderr. Standard
 * streams are read and written by their numbers: Node's stream classes would take longer to load than everything else here.
 */
import { existsSync, fstatSync, readFileSync, readSync, writeSync } from 'node:fs';
import { deadlines } from './context.ts';
import { CniError, cniCode } from './spec.ts';
import { respond } from './verbs.ts';

const MAX_STDIN = 1 << 20;
const CHUNK = 64 * 1024;

/** Runs the verb of CNI_COMMAND. @returns the exit code */
export async function runPlugin(): Promise<number> {
  const { text, exitCode } = await respond({
    env: process.env,
    stdin: once(readAll),
    readFile: (path) => readFileSync(path, 'utf8'),
    exists: existsSync,
    note: (line) => {
      write(2, `culvert-cni: ${line}\n`);
    },
    deadlines: deadlines(process.uptime() * 1000),
  });
  if (text !== '') write(1, `${text}\n`);
  return exitCode;
}

/** Stdin can be read once: who asks again gets what came, or failed, the first time. */
function once(read: () => string): () => string {
  let result: { text: string } | { error: unknown } | undefined;
  return () => {
    if (result === undefined) {
      try {
        result = { text: read() };
      } catch (error) {
        result = { error };
      }
    }
    if ('error' in result) throw result.error;
    return result.text;
  };
}

/** Stdin to its end. A terminal, as any device, has nothing for us. */
function readAll(): string {
  if (isDevice()) return '';
  const chunks: Buffer[] = [];
  for (let length = 0; ;) {
    const chunk = Buffer.allocUnsafe(CHUNK);
    const count = readChunk(chunk);
    if (count === 0) return Buffer.concat(chunks).toString('utf8');
    chunks.push(chunk.subarray(0, count));
    length += count;
    if (length > MAX_STDIN) {
      throw new CniError(cniCode.decodeFailure, 'decode stdin: it is larger than 1 MiB', 'shorten the network configuration or prevResult');
    }
  }
}

/** Also true where the runtime left stdin closed. */
function isDevice(): boolean {
  try {
    return fstatSync(0).isCharacterDevice();
  } catch {
    return true;
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
      pause();
    }
  }
}

/** Somebody who stopped reading (EPIPE) does not want the rest. */
function write(fd: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length;) {
    try {
      at += writeSync(fd, bytes, at);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return;
      pause();
    }
  }
}

function pause(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
}
