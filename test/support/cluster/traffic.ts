/** Traffic between pods that goes on through whatever a scenario does, and what became of every request of it. */
import { execFile } from 'node:child_process';
import { chmodSync, copyFileSync, cpSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { KubeObject } from '../../../src/kubernetes/api.ts';
import { until } from '../kubernetes/until.ts';
import { appPod, appService } from './app.ts';
import type { Cluster } from './cluster.ts';
import { imageOf } from './image.ts';
import { KINDS, noTotals, type Totals } from './traffic/totals.ts';
import type { ClusterNode } from './node.ts';

const run = promisify(execFile);
export const TRAFFIC_IMAGE = 'culvert.test/traffic:1';
const PROGRAMS = join(import.meta.dirname, 'traffic');
const TOTALS = '/totals/totals.json';

/** The pause after a scenario in which requests under way come to their end. */
const SETTLE_MS = 500;

export interface TrafficOptions {
  namespace: string;
  /** default: the first */
  clientNode?: ClusterNode;
  /** default: the last */
  serverNode?: ClusterNode;
}

/** Node with the two programs; 130 MB. On all nodes when it returns. */
async function importTrafficImage(cluster: Cluster): Promise<void> {
  const root = join(cluster.dir, 'traffic-root');
  const { stdout } = await run('ldd', [process.execPath]);
  const libraries = [...stdout.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1]!);
  for (const directory of ['dev', 'etc', 'proc', 'sys', 'tmp', 'totals', 'usr/local/bin'])
    mkdirSync(join(root, directory), { recursive: true });
  for (const library of libraries) {
    mkdirSync(dirname(join(root, library)), { recursive: true });
    copyFileSync(library, join(root, library));
  }
  copyFileSync(process.execPath, join(root, 'usr/local/bin/node'));
  chmodSync(join(root, 'usr/local/bin/node'), 0o755);
  cpSync(PROGRAMS, join(root, 'traffic'), { recursive: true });
  const archive = await imageOf(root, TRAFFIC_IMAGE, { entrypoint: ['node'] }, join(cluster.dir, 'traffic.tar'));
  await cluster.importImage(archive);
}

export class Traffic {
  readonly namespace: string;
  readonly #file: string;
  /** "HOST:PORT" that is asked */
  readonly target: string;

  private constructor(namespace: string, target: string, file: string) {
    this.namespace = namespace;
    this.target = target;
    this.#file = file;
  }

  /** Pod "client" on one node asks service "web", pods web-1 and web-2 on the other, by its ClusterIP. Returns when it is answered. */
  static async start(cluster: Cluster, { namespace, clientNode, serverNode }: TrafficOptions): Promise<Traffic> {
    const [from, to] = [clientNode ?? cluster.nodes[0]!, serverNode ?? cluster.nodes.at(-1)!];
    await importTrafficImage(cluster);
    const program = (name: string, node: ClusterNode, file: string, args: readonly string[], more: object = {}): KubeObject =>
      appPod({
        ...{ namespace, name, node: node.name, image: TRAFFIC_IMAGE },
        command: ['node', '--disable-warning=ExperimentalWarning', `/traffic/${file}.ts`, ...args],
        ...more,
      });
    // Of one server only: a kubelet that starts again calls whoever has such a probe not ready until it has asked, and who is alone then
    // has a service of nobody for a tenth of a second, mesh or not.
    const probes = { readinessProbe: { httpGet: { path: '/', port: 8080 }, periodSeconds: 1 } };
    const servers = ['web-1', 'web-2'];
    const [, , service] = await cluster.apply([
      ...servers.map((name) => program(name, to, 'server', [], { labels: { app: 'web' }, container: name === 'web-1' ? probes : {} })),
      appService(namespace, 'web', { app: 'web' }),
    ]);
    await Promise.all(servers.map((name) => cluster.podReady(namespace, name)));
    const { clusterIP } = service!['spec'] as { clusterIP: string };
    const volume = { name: 'totals', mountPath: dirname(TOTALS) };
    const [client] = await cluster.apply([
      program('client', from, 'client', [clusterIP, '80', TOTALS], {
        container: { volumeMounts: [volume] },
        spec: { volumes: [{ name: 'totals', emptyDir: {} }] },
      }),
    ]);
    await cluster.podReady(namespace, 'client');
    const directory = `/var/lib/kubelet/pods/${client!.metadata.uid}/volumes/kubernetes.io~empty-dir/totals`;
    const traffic = new Traffic(namespace, `${clusterIP}:80`, from.path(`${directory}/totals.json`));
    await until('the load to be answered', () => KINDS.every((kind) => traffic.totals()[kind].ok > 0));
    return traffic;
  }

  totals(): Totals {
    try {
      return JSON.parse(readFileSync(this.#file, 'utf8')) as Totals;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return noTotals();
      throw error;
    }
  }

  /** What it saw while something was done, and until `least` requests with a connection of their own had been answered. */
  async during(act: () => Promise<unknown>, least = 300): Promise<Totals> {
    const before = this.totals();
    await act();
    await until(`${least} requests of the load`, () => this.totals().fresh.ok - before.fresh.ok >= least);
    await sleep(SETTLE_MS);
    const after = this.totals();
    const since = noTotals();
    for (const kind of KINDS) {
      for (const field of ['ok', 'failed', 'connections'] as const) since[kind][field] = after[kind][field] - before[kind][field];
    }
    const known = before.failures.at(-1)?.at ?? '';
    since.failures = after.failures.filter(({ at }) => at > known);
    return since;
  }
}
