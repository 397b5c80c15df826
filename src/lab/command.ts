/** Runs the system's own tools (ip, unshare, mount): what an administrator would type, with its stderr kept for the message. */
import { spawn } from 'node:child_process';
import { CulvertError } from '../base/errors.ts';

export interface CommandResult {
  /** 128 + signal when killed */
  code: number;
  stdout: string;
  stderr: string;
}

export interface CommandOptions {
  input?: string;
  env?: Record<string, string>;
  /** SIGKILL after this many milliseconds; default 20,000 */
  timeoutMs?: number;
}

/** Resolves with any exit code. @throws CulvertError LAB when the program cannot be started */
export async function attempt(argv: string[], options: CommandOptions = {}): Promise<CommandResult> {
  const [program, ...args] = argv as [string, ...string[]];
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: 'pipe', ...(options.env === undefined ? {} : { env: options.env }) });
    const deadline = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? 20_000);
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.on('error', (error) => {
      clearTimeout(deadline);
      reject(new CulvertError('LAB', `start ${program}: ${error.message}`, error));
    });
    child.on('close', (code, signal) => {
      clearTimeout(deadline);
      resolve({ code: code ?? 128 + (signal === null ? 0 : 9), stdout, stderr });
    });
    child.stdin.on('error', () => undefined); // a program that exits without reading its input is no fault
    child.stdin.end(options.input ?? '');
  });
}

/** @throws CulvertError LAB for an exit code other than 0, with the program's last words */
export async function must(argv: string[], options: CommandOptions = {}): Promise<string> {
  const result = await attempt(argv, options);
  if (result.code !== 0) {
    const words = (result.stderr.trim() || result.stdout.trim() || 'it said nothing').split('\n').slice(-3).join(' / ');
    throw new CulvertError('LAB', `run ${argv.slice(0, 6).join(' ')}: exit code ${result.code}: ${words}`);
  }
  return result.stdout;
}
