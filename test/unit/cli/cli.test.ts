import { describe, expect, test } from 'vitest';
import { program, runCli } from '../../../src/cli/main.ts';
import { counts, render, type CliIo } from '../../../src/cli/output.ts';

async function culvert(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const said = { out: '', err: '' };
  const io: CliIo = { out: (text) => (said.out += text), err: (text) => (said.err += text), tty: false };
  return { code: await runCli(args, io), ...said };
}

const NOWHERE = ['--run-dir', '/nonexistent/culvert', '--pin-dir', '/nonexistent/pins'];

describe('exit codes', () => {
  test.each([
    ['an unknown command', ['statsu'], /unknown command 'statsu'/],
    ['an unknown command of the lab', ['lab', 'upp'], /unknown command 'upp'/],
    ['an unknown option', ['status', '--colour'], /unknown option '--colour'/],
    ['an unknown format', ['pods', '-o', 'yaml'], /Allowed choices are json, table/],
    ['a missing argument', ['lab', 'exec'], /missing required argument 'pod'/],
    ['no command at all', [], /Usage: culvert/],
    ['verify without saying what', ['verify', ...NOWHERE], /name one pod/],
    [
      'a lab that is none',
      ['lab', 'label', '--name', 'cvt-none', 'namespace', 'a', 'b=c'],
      /there is none; "culvert lab up --name cvt-none"/,
    ],
    ['a label that is none', ['lab', 'label', 'namespace', 'a', 'b'], /neither KEY=VALUE nor KEY-/],
    ['a lab name that is none', ['lab', 'up', '--name', '../x'], /read lab name/],
    ['nodes of a lab that is none', ['status', '--lab', 'cvt-none'], /there is none/],
    ['a topology that is not there', ['lab', 'up', '--name', 'cvt-none', '--file', '/nonexistent.yaml'], /there is no file/],
  ])('2 for %s', async (_, args, message) => {
    const { code, out, err } = await culvert(...args);
    expect(err).toMatch(message);
    expect(out).toBe('');
    expect(code).toBe(2);
  });

  test.each([
    ['connections', [], /ask tunnel: nobody listens/],
    ['certs', [], /ask tunnel: nobody listens/],
  ])('3 for %s without a tunnel', async (command, args, message) => {
    const { code, out, err } = await culvert(command, ...args, ...NOWHERE);
    expect(err).toMatch(message);
    expect(out).toBe('');
    expect(code).toBe(3);
  });
});

describe('answers', () => {
  test('-o json is one document', async () => {
    const { code, out, err } = await culvert('version', '-o', 'json');
    expect(JSON.parse(out)).toMatchObject({ version: '0.1.0', node: process.version });
    expect(err).toBe('');
    expect(code).toBe(0);
  });

  test('a table has no trailing blanks and says when it is empty', async () => {
    expect(await render({ head: ['A', 'LONG'], rows: [['one', ''], ['2', 'two\nlines']] })).toBe('A    LONG\none\n2    two\n     lines\n'); // prettier-ignore
    expect(await render({ head: ['POD'], rows: [] })).toBe('none\n');
  });

  test('reasons that never happened are left out', () => {
    expect(counts({ own: 2, loopback: 0, tunnel: 1 })).toBe('own 2, tunnel 1');
  });
});

describe('help and completion', () => {
  test('help of every command', async () => {
    const cli = { io: { out: () => undefined, err: () => undefined, tty: false }, exit: { code: 0 } };
    const all = (command: ReturnType<typeof program>, path: string): string[] => [
      `$ ${path} --help\n${command.helpInformation()}`,
      ...command
        .createHelp()
        .visibleCommands(command)
        .filter((child) => child.name() !== 'help')
        .flatMap((child) => all(child, `${path} ${child.name()}`)),
    ];
    await expect(all(program(cli), 'culvert').join('\n')).toMatchFileSnapshot('../../golden/help.txt');
  });

  test('help is an answer, not an error', async () => {
    for (const args of [['--help'], ['help'], ['help', 'pods'], ['lab', 'up', '--help']]) {
      const { code, out } = await culvert(...args);
      expect(out).toMatch(/^Usage: culvert/);
      expect(code).toBe(0);
    }
  });

  test.each(['bash', 'zsh', 'fish'])('%s completion knows the commands', async (shell) => {
    const { out } = await culvert('completion', shell);
    for (const word of ['status', 'verify', 'label', 'logs']) expect(out).toContain(word);
  });
});
