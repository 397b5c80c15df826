/**
 * A throw-away network namespace that is nobody's: joined to the node's by a veth pair and routed, so that what it sends to a pod
 * is forwarded traffic. (A connection of the node itself would be a probe, and exempt.) It lives as long as a child process whose
 * stdin is a pipe of ours: when the agent is killed the pipe closes, the child ends, and namespace and veth pair go with it.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { CulvertError } from '../base/errors.ts';

/** Link-local, so that no pod network can claim it; /30 and /126: the node's end is .1, ours .2. */
const V4 = { node: '169.254.77.1', probe: '169.254.77.2', prefix: 30 };
const V6 = { node: 'fd77:6375:6c76::1', probe: 'fd77:6375:6c76::2', prefix: 126 };

export interface ProbeNetns {
  fd: number;
  close(): Promise<void>;
}

/** @param nodeNetns path of the node's netns; it must forward (net.ipv4.ip_forward) @throws SYSTEM naming the command that failed */
export async function openProbeNetns(nodeNetns: string): Promise<ProbeNetns> {
  const device = `cvt-vfy${process.pid}`.slice(0, 15);
  const child = spawn('unshare', ['--net', 'sh', '-c', 'echo ready; exec cat'], { stdio: ['pipe', 'pipe', 'ignore'] });
  try {
    await ready(child);
    const pid = String(child.pid ?? 0);
    await ip(
      ['nsenter', `--net=${nodeNetns}`],
      [
        `link add ${device} type veth peer name eth0 netns ${pid}`,
        `addr add ${V4.node}/${V4.prefix} dev ${device}`,
        `link set ${device} up`,
      ],
    );
    await ip(
      ['nsenter', '--target', pid, '--net'],
      [`addr add ${V4.probe}/${V4.prefix} dev eth0`, 'link set lo up', 'link set eth0 up', `route add default via ${V4.node}`],
    );
    // a node without IPv6 has no pod to be tried over it
    await ip(['nsenter', `--net=${nodeNetns}`], [`addr add ${V6.node}/${V6.prefix} dev ${device} nodad`]).catch(() => undefined);
    await ip(
      ['nsenter', '--target', pid, '--net'],
      [`addr add ${V6.probe}/${V6.prefix} dev eth0 nodad`, `route add default via ${V6.node}`],
    ).catch(() => undefined);
    const fd = openSync(`/proc/${pid}/ns/net`, 'r');
    return {
      fd,
      async close() {
        closeSync(fd);
        await end(child, nodeNetns, device);
      },
    };
  } catch (error) {
    await end(child, nodeNetns, device);
    throw error instanceof CulvertError ? error : new CulvertError('SYSTEM', 'open throw-away network namespace', error);
  }
}

/** The namespace is there once its first process has said so. */
async function ready(child: ChildProcess): Promise<void> {
  const said = new Promise<void>((resolve, reject) => {
    child.stdout?.once('data', () => {
      resolve();
    });
    child.once('error', reject);
    child.once('exit', (code) => {
      reject(new CulvertError('SYSTEM', `open throw-away network namespace: unshare ended with ${code ?? 'a signal'}`));
    });
  });
  await said;
}

/** The pair is removed by name as well: a namespace is taken down by the kernel some time after its last process. */
async function end(child: ChildProcess, nodeNetns: string, device: string): Promise<void> {
  await ip(['nsenter', `--net=${nodeNetns}`], [`link del ${device}`]).catch(() => undefined);
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.stdin?.end();
  child.kill('SIGKILL');
  await exited;
}

function ip([command = 'ip', ...args]: string[], commands: string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = execFile(command, [...args, 'ip', '-batch', '-'], { timeout: 5000 }, (error, _stdout, stderr) => {
      if (error === null) resolve();
      else
        reject(
          new CulvertError('SYSTEM', `open throw-away network namespace: ip: ${stderr.trim().split('\n')[0] ?? error.message}`, error),
        );
    });
    child.stdin?.on('error', () => undefined); // it ended before it read: its exit says why
    child.stdin?.end(`${commands.join('\n')}\n`);
  });
}
