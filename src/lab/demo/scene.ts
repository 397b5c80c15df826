/** What the proofs play on: a running lab with a client in an enrolled pod and one in a pod outside the mesh. */
import { randomBytes } from 'node:crypto';
import { CulvertError } from '../../base/errors.ts';
import { attempt } from '../command.ts';
import { startDaemon, daemonRecord, type Daemon } from '../daemons.ts';
import { nodesOf } from '../down.ts';
import { echoPorts, type EchoAnswer } from '../echo.ts';
import { nodeAddresses } from '../network/addresses.ts';
import type { LabPaths } from '../paths.ts';
import { isGone, signal } from '../processes.ts';
import { selfCommand } from '../self.ts';
import { readState } from '../state.ts';
import { until } from '../until.ts';
import { AccessLogReader, type AccessLine } from './access-log.ts';
import { Capture, DISCARD_PORT } from './capture.ts';
import { Client } from './client.ts';

export type Family = 4 | 6;

export class Scene {
  readonly lab: LabPaths;
  /** shop/client on node1: enrolled while the namespace is labelled */
  readonly client: Client;
  /** legacy/old on node2: never enrolled */
  readonly stranger: Client;
  readonly #logs: Map<string, AccessLogReader>;

  private constructor(lab: LabPaths, client: Client, stranger: Client) {
    this.lab = lab;
    this.client = client;
    this.stranger = stranger;
    this.#logs = new Map(nodesOf(lab).map((node) => [node, new AccessLogReader(lab.node(node).tunnelLog)]));
  }

  static async set(lab: LabPaths): Promise<Scene> {
    const [client, stranger] = await Promise.all([Client.start(lab, 'shop/client'), Client.start(lab, 'legacy/old')]);
    return new Scene(lab, client, stranger);
  }

  close(): void {
    this.client.close();
    this.stranger.close();
  }

  /** Address of a pod. */
  ip(pod: string, family: Family = 4): string {
    return this.#pick(readState(this.lab).pods[pod]?.ips, family, pod);
  }

  /** Virtual address of a service. */
  vip(service: string, family: Family = 4): string {
    return this.#pick(readState(this.lab).services[service]?.vips, family, service);
  }

  #pick(addresses: string[] | undefined, family: Family, what: string): string {
    const found = addresses?.find((address) => address.includes(':') === (family === 6));
    if (found === undefined) throw new CulvertError('CHECK_FAILED', `find IPv${family} address of ${what}: it has none`);
    return found;
  }

  /** One HTTP exchange on a new connection. The marker travels in path, header and body. */
  async http(
    from: Client,
    host: string,
    port: number = echoPorts.http,
    marker = 'demo',
  ): Promise<{ seen: EchoAnswer; local: string; ms: number }> {
    const { text, local, ms } = await from.must({
      op: 'http',
      host,
      port,
      path: `/${marker}`,
      headers: { 'x-marker': marker },
      body: marker,
    });
    const seen = JSON.parse(text) as EchoAnswer;
    expect(seen.path === `/${marker}` && seen.body === marker, `the answer is of another request: ${text}`);
    return { seen, local, ms };
  }

  /** Text that occurs nowhere else. */
  marker(): string {
    return `marker-${randomBytes(12).toString('hex')}`;
  }

  /** Everything between the nodes while `act` runs. */
  async captured<T>(act: () => Promise<T>): Promise<{ result: T; wire: Buffer }> {
    const capture = await Capture.start(this.lab);
    try {
      const result = await act();
      const end = this.marker();
      await this.stranger.must({ op: 'datagram', host: nodeAddresses(1).v4, port: DISCARD_PORT, text: end });
      await capture.seen(end);
      return { result, wire: await capture.stop() };
    } catch (error) {
      await capture.stop().catch(() => undefined);
      throw error;
    }
  }

  markLogs(): void {
    for (const log of this.#logs.values()) log.mark();
  }

  async accessLine(node: string, what: string, matches: (line: AccessLine) => boolean): Promise<AccessLine> {
    const log = this.#logs.get(node);
    if (log === undefined) throw new CulvertError('CHECK_FAILED', `read access log: there is no node ${node}`);
    return log.find(what, matches);
  }

  /** SIGKILL; resolves when the process, and with it every socket that only it had, is gone. */
  async kill(node: string, daemon: Daemon): Promise<void> {
    const record = daemonRecord(this.lab, node, daemon);
    expect(signal(record, 'SIGKILL'), `${daemon} of ${node} was not running`);
    await until(`${daemon} of ${node} to end`, 5000, () => (isGone(record) ? true : undefined));
  }

  async start(node: string, daemon: Daemon): Promise<void> {
    await startDaemon(this.lab, node, daemon);
  }

  /** `culvert … --lab NAME -o json` as a process of its own, its one document parsed. */
  async culvert<T>(args: string[]): Promise<{ code: number; document: T }> {
    const done = await attempt([...selfCommand(), ...args, '--lab', this.lab.name, '-o', 'json'], { timeoutMs: 30_000 });
    try {
      return { code: done.code, document: JSON.parse(done.stdout) as T };
    } catch {
      throw new CulvertError(
        'CHECK_FAILED',
        `run culvert ${args.join(' ')}: exit code ${done.code}: ${(done.stderr || done.stdout).trim()}`,
      );
    }
  }
}

/** @throws CulvertError CHECK_FAILED with the sentence */
export function expect(holds: boolean, otherwise: string): void {
  if (!holds) throw new CulvertError('CHECK_FAILED', otherwise);
}
