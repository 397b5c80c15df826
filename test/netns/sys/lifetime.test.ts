/** What the addon's threads mean for a process: when it may end, what an error in a callback does, and the one case where it must die. */
import { spawnSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Place } from './place.ts';

const NATIVE = new URL('../../../src/sys/native.ts', import.meta.url).href;

describe('a process with the addon', () => {
  let place: Place;
  beforeAll(() => {
    place = Place.create('life');
  });
  afterAll(() => {
    place.close();
  });

  /** Runs a module of its own with `native`, `netns` (an open fd) and `fs` at hand. */
  function run(body: string): { status: number | null; signal: NodeJS.Signals | null; stdout: string; stderr: string } {
    const code = `import * as fs from 'node:fs'; import { native } from ${JSON.stringify(NATIVE)};
      const netns = fs.openSync(${JSON.stringify(place.path)}, 'r'); const nothing = () => undefined; ${body}`;
    const options = { encoding: 'utf8', timeout: 10_000, killSignal: 'SIGKILL' } as const;
    return spawnSync(process.execPath, ['--disable-warning=ExperimentalWarning', '--input-type=module', '--eval', code], options);
  }

  it('ends when nothing is open', () => {
    expect(run(`native.netnsRun(netns, []); native.netnsWatch(netns, nothing).close(); console.log('done');`)).toMatchObject({
      status: 0,
      stdout: 'done\n',
    });
  });

  it('stays while a watch, a listener or a connect is open', () => {
    const body = (open: string): string =>
      `const start = Date.now(); ${open} process.on('exit', () => console.log(Date.now() - start >= 95 ? 'stayed' : 'left'));`;
    // Closed by something that does not keep the loop alive itself.
    const closer = `const worker = new (await import('node:worker_threads')).Worker('setTimeout(() => {}, 100)', { eval: true }); worker.unref(); worker.on('exit', () => handle.close());`;
    expect(run(body(`const handle = native.netnsWatch(netns, nothing); ${closer}`))).toMatchObject({ status: 0, stdout: 'stayed\n' });
    expect(
      run(body(`const handle = native.seqpacketListen('/tmp/cvt-addon-' + process.pid, 0o600, 16, nothing); ${closer}`)),
    ).toMatchObject({ status: 0, stdout: 'stayed\n' });
    const connect = `native.netnsConnect(netns, { family: 4, type: 'tcp', destination: { address: '10.9.0.99', port: 1 }, timeoutMs: 100 }).catch(nothing);`;
    expect(run(body(connect))).toMatchObject({ status: 0, stdout: 'stayed\n' });
  });

  it('can leave at any moment, from inside a callback too', () => {
    const change = `native.netnsRun(netns, [{ op: 'rule', add: true, family: 4, pref: 7, mark: 1, mask: 1, action: 'lookup', table: 7 }, { op: 'rule', add: false, family: 4, pref: 7, mark: 1, mask: 1, action: 'lookup', table: 7 }]);`;
    expect(run(`native.netnsWatch(netns, () => process.exit(7)); ${change}`)).toMatchObject({ status: 7, signal: null });
    const connects = `for (let i = 0; i < 100; i++) native.netnsConnect(netns, { family: 4, type: 'tcp', destination: { address: '10.9.0.99', port: 1 }, timeoutMs: 1000 }).catch(nothing);`;
    expect(run(`native.netnsWatch(netns, nothing); ${connects} process.exit(8);`)).toMatchObject({ status: 8, signal: null });
  });

  it('sees what a callback throws as its uncaught exception', () => {
    const change = `native.netnsRun(netns, [{ op: 'rule', add: true, family: 4, pref: 8, mark: 1, mask: 1, action: 'lookup', table: 7 }, { op: 'rule', add: false, family: 4, pref: 8, mark: 1, mask: 1, action: 'lookup', table: 7 }]);`;
    const result = run(
      `process.on('uncaughtException', (error) => { console.log(error.message); watch.close(); }); const watch = native.netnsWatch(netns, () => { throw new Error('mine'); }); ${change}`,
    );
    expect(result).toMatchObject({ status: 0, stdout: 'mine\n' });
  });

  it('loads the addon in a worker too', () => {
    const worker = `import(${JSON.stringify(NATIVE)}).then(({ native }) => { native.netnsWatch(Number(process.env.NETNS), () => {}); require('node:worker_threads').parentPort.postMessage(String(native.netnsCookie(Number(process.env.NETNS)))); })`;
    const body = `const { Worker } = await import('node:worker_threads'); const worker = new Worker(${JSON.stringify(worker)}, { eval: true, execArgv: [], env: { NETNS: String(netns) } });
      worker.on('message', async (cookie) => { console.log(cookie === String(native.netnsCookie(netns))); await worker.terminate(); console.log('ended'); });`;
    expect(run(body)).toMatchObject({ status: 0, stdout: 'true\nended\n' });
  });

  it("dies rather than go on in a stranger's namespace", () => {
    // The way back is the descriptor that the netns thread opened of the process's own namespace: without it, setns back must fail.
    const body = `native.netnsRun(netns, []); const own = fs.readlinkSync('/proc/self/ns/net');
      for (const fd of fs.readdirSync('/proc/self/fd')) { try { if (fs.readlinkSync('/proc/self/fd/' + fd) === own) native.closeFd(Number(fd)); } catch {} }
      native.netnsRun(netns, []); console.log('still here');`;
    const result = run(body);
    expect(result).toMatchObject({ signal: 'SIGABRT', stdout: '' });
    expect(result.stderr).toContain("setns back to the process's own network namespace");
  });
});
