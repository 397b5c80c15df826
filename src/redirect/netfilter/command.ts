/** Runs the node's own tools (iptables-restore, nft, ipset) inside a network namespace: nsenter execs, so each is one process. */
import { spawn, spawnSync } from 'node:child_process';
import { CulvertError } from '../../base/errors.ts';

export interface CommandResult {
  /** 128 + signal when killed, 127 when there is no such program */
  code: number;
  stdout: string;
  stderr: string;
}

/** What a command is run with: the namespace by an open descriptor, inherited as the third. */
export interface Place {
  netnsFd: number;
  env?: Record<string, string>;
}

const TIMEOUT_MS = 20_000;
const NETNS = ['--net=/proc/self/fd/3', '--'];
const LARGEST = 64 << 20;

/** Resolves with any exit code. @throws CulvertError SYSTEM when nsenter cannot be started */
export function run(place: Place, argv: readonly string[], input = ''): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const child = spawn('nsenter', [...NETNS, ...argv], { stdio: ['pipe', 'pipe', 'pipe', place.netnsFd], env: environment(place) });
    const deadline = setTimeout(() => child.kill('SIGKILL'), TIMEOUT_MS);
    let stdout = '';
    let stderr = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.on('error', (error) => {
      clearTimeout(deadline);
      reject(new CulvertError('SYSTEM', `start nsenter for ${argv[0] ?? ''}`, error));
    });
    child.on('close', (code, signal) => {
      clearTimeout(deadline);
      resolve({ code: code ?? 128 + (signal === null ? 0 : 9), stdout, stderr });
    });
    child.stdin?.on('error', () => undefined); // a program that exits without reading its input is no fault
    child.stdin?.end(input);
  });
}

/** The same for callers that cannot wait: the process stands still meanwhile, some milliseconds. */
export function runSync(place: Place, argv: readonly string[]): CommandResult {
  const result = spawnSync('nsenter', [...NETNS, ...argv], {
    stdio: ['ignore', 'pipe', 'pipe', place.netnsFd],
    env: environment(place),
    encoding: 'utf8',
    timeout: TIMEOUT_MS,
    maxBuffer: LARGEST,
  });
  if (result.error !== undefined) throw new CulvertError('SYSTEM', `run ${argv.join(' ')}`, result.error);
  return { code: result.status ?? 128 + 9, stdout: result.stdout, stderr: result.stderr };
}

/** @throws CulvertError SYSTEM with the program's last words */
export function demand(argv: readonly string[], result: CommandResult): string {
  if (result.code === 0) return result.stdout;
  throw new CulvertError('SYSTEM', `run ${argv.join(' ')}: exit code ${result.code}: ${lastWords(result)}`);
}

export function lastWords({ stderr, stdout }: CommandResult): string {
  const words = (stderr.trim() || stdout.trim() || 'it said nothing').split('\n').filter((line) => !line.startsWith('#'));
  return words.slice(-3).join(' / ');
}

function environment(place: Place): NodeJS.ProcessEnv {
  return { PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C', ...place.env };
}
