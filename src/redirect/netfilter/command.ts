/**
 * Runs the node's own tools (iptables-restore, nft, ipset) inside a network namespace: nsenter execs, so one command is one process. To
 * start a process costs more than what these tools do, so several commands for one place are run by one shell. None is waited for without end.
 */
import { spawn, spawnSync, type SpawnOptions, type SpawnSyncOptionsWithStringEncoding } from 'node:child_process';
import { CulvertError, isSystem } from '../../base/errors.ts';

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
  /** default half a minute: two that each wait for a lock as long as they may */
  deadlineMs?: number;
}

export interface Command {
  argv: readonly string[];
  /** text of whole lines; default none */
  input?: string;
}

const DEADLINE_MS = 30_000;
const NETNS = ['--net=/proc/self/fd/3', '--'];
/** What a pod's rules may come to: it must not fill the agent's memory with them. */
const LARGEST = 64 << 20;
/** On a line of its own, ends what each command of several says; no line of theirs, nor of any input, is this. */
const END = 'culvert-end';

/**
 * Resolves with any exit code. @param name what is said of it when it fails
 * @throws CulvertError SYSTEM when nsenter cannot be started, or the command does not end in time
 */
export function run(place: Place, argv: readonly string[], input = '', name = argv.join(' ')): Promise<CommandResult> {
  const { netnsFd, deadlineMs = DEADLINE_MS } = place;
  return new Promise((resolve, reject) => {
    // a process group of its own, so that nothing that it started holds its output open
    const child = spawn('nsenter', [...NETNS, ...argv], {
      stdio: ['pipe', 'pipe', 'pipe', netnsFd],
      env: environment(place),
      detached: true,
    });
    const end = (error: CulvertError): void => {
      clearTimeout(deadline);
      reject(error);
      if (child.pid !== undefined) killGroup(child.pid);
      for (const stream of [child.stdin, child.stdout, child.stderr]) stream?.destroy();
    };
    const deadline = setTimeout(() => end(tooLong(name, deadlineMs, stderr)), deadlineMs);
    let stdout = '';
    let stderr = '';
    const limit = (): void => {
      if (stdout.length + stderr.length > LARGEST)
        end(new CulvertError('SYSTEM', `run ${name}: it says more than ${LARGEST >> 20} MiB, killed`));
    };
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
      limit();
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
      limit();
    });
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
export function runSync(place: Place, argv: readonly string[], input = '', name = argv.join(' ')): CommandResult {
  const { netnsFd, deadlineMs = DEADLINE_MS } = place;
  const options: SpawnSyncOptionsWithStringEncoding & Pick<SpawnOptions, 'detached'> = {
    stdio: ['pipe', 'pipe', 'pipe', netnsFd],
    input,
    env: environment(place),
    encoding: 'utf8',
    timeout: deadlineMs,
    killSignal: 'SIGKILL',
    maxBuffer: LARGEST,
    detached: true, // a process group of its own; Node takes it, its types do not know it
  };
  const result = spawnSync('nsenter', [...NETNS, ...argv], options);
  if (result.error !== undefined) {
    if (result.pid > 0) killGroup(result.pid);
    if (isSystem(result.error, 'ETIMEDOUT')) throw tooLong(name, deadlineMs, result.stderr);
    throw new CulvertError('SYSTEM', `run ${name}`, result.error);
  }
  return { code: result.status ?? 128 + 9, stdout: result.stdout, stderr: result.stderr };
}

/** One after another, whatever becomes of each. @throws as `run` */
export async function runAll(place: Place, commands: readonly Command[]): Promise<CommandResult[]> {
  const [only] = commands;
  if (only === undefined) return [];
  if (commands.length === 1) return [await run(place, only.argv, only.input)];
  return apart(commands, await run(place, ['sh'], scriptOf(commands), namesOf(commands)));
}

export function runAllSync(place: Place, commands: readonly Command[]): CommandResult[] {
  return commands.length === 0 ? [] : apart(commands, runSync(place, ['sh'], scriptOf(commands), namesOf(commands)));
}

/** @throws CulvertError SYSTEM with the program's last words */
export function demand(argv: readonly string[], result: CommandResult): string {
  if (result.code === 0) return result.stdout;
  throw new CulvertError('SYSTEM', `run ${argv.join(' ')}: exit code ${result.code}: ${lastWords(result)}`);
}

/** @throws CulvertError SYSTEM with the last words of the first that failed */
export async function demandAll(place: Place, commands: readonly Command[]): Promise<string[]> {
  return demandEach(commands, await runAll(place, commands));
}

export function demandAllSync(place: Place, commands: readonly Command[]): string[] {
  return demandEach(commands, runAllSync(place, commands));
}

function demandEach(commands: readonly Command[], results: readonly CommandResult[]): string[] {
  return results.map((result, i) => demand(commands[i]?.argv ?? [], result));
}

export function lastWords({ stderr, stdout }: CommandResult): string {
  const words = (stderr.trim() || stdout.trim() || 'it said nothing').split('\n').filter((line) => !line.startsWith('#'));
  return words.slice(-3).join(' / ');
}

function scriptOf(commands: readonly Command[]): string {
  const fed = ({ argv, input }: Command): string =>
    `${argv.map(quoted).join(' ')} ${input === undefined ? '</dev/null' : `<<'${END}'\n${input}${END}`}`;
  // a line's end before it: what was killed may have stopped in the middle of a line
  return commands.map((command) => `${fed(command)}\nprintf '\\n${END} %s\\n' $?; printf '\\n${END}\\n' >&2\n`).join('');
}

function namesOf(commands: readonly Command[]): string {
  return commands.map(({ argv }) => argv.join(' ')).join('; ');
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

/** A shell that was killed leaves some without an end: to those its own end applies. */
function apart(commands: readonly Command[], { code, stdout, stderr }: CommandResult): CommandResult[] {
  const said = [...stdout.matchAll(new RegExp(`([^]*?)\\n${END} (\\d+)\\n`, 'g'))];
  const complained = stderr.split(`\n${END}\n`);
  return commands.map((_, i) => {
    const [, text, ended] = said[i] ?? [];
    return { code: ended === undefined ? code || 1 : Number(ended), stdout: text ?? '', stderr: complained[i] ?? '' };
  });
}

function tooLong(name: string, deadlineMs: number, stderr: string): CulvertError {
  const words = stderr.trim() === '' ? '' : `: ${lastWords({ code: 0, stdout: '', stderr })}`;
  return new CulvertError('SYSTEM', `run ${name}: not done after ${deadlineMs / 1000} s, killed${words}`);
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // it ended by itself just now
  }
}

function environment(place: Place): NodeJS.ProcessEnv {
  return { PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C', ...place.env };
}
