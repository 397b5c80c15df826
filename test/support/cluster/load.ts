/** A pod that asks one address again and again, a new connection each time, and counts: what a scenario must not disturb. */
import type { KubeObject } from '../../../src/kubernetes/api.ts';
import { until } from '../kubernetes/until.ts';
import { appPod, type AppOptions } from './app.ts';
import type { Cluster } from './cluster.ts';

export interface Tally {
  ok: number;
  failed: number;
}

/** How many answers show that it works now. */
const RISE = 5;

export interface LoadOptions extends AppOptions {
  url: string;
}

/** The counts and what wget said of failures are files in the pod: asking for them disturbs nothing. */
export function loadPod({ url, ...pod }: LoadOptions): KubeObject {
  const script = [
    `ok=0; failed=0; trap exit TERM; : >/tmp/errors`,
    `while :; do`,
    `  if wget -q -O /dev/null "${url}" 2>/tmp/error; then ok=$((ok + 1)); else failed=$((failed + 1)); { date; cat /tmp/error; } >>/tmp/errors; fi`,
    `  echo "$ok $failed" >/tmp/tally`,
    `done`,
  ].join('\n');
  return appPod({ ...pod, command: ['/bin/sh', '-c', script] });
}

export class Load {
  readonly #cluster: Cluster;
  readonly #options: LoadOptions;

  constructor(cluster: Cluster, options: LoadOptions) {
    this.#cluster = cluster;
    this.#options = options;
  }

  /** Resolves when it runs and is answered. */
  static async start(cluster: Cluster, options: LoadOptions): Promise<Load> {
    await cluster.apply([loadPod(options)]);
    await cluster.podReady(options.namespace, options.name);
    const load = new Load(cluster, options);
    await load.rising();
    return load;
  }

  async tally(): Promise<Tally> {
    for (;;) {
      const counts = /^(\d+) (\d+)\n$/.exec(await this.#cat('/tmp/tally'));
      if (counts !== null) return { ok: Number(counts[1]), failed: Number(counts[2]) }; // else it was just being written
    }
  }

  /** Of every failure the time and what was said. */
  errors(): Promise<string> {
    return this.#cat('/tmp/errors');
  }

  /** Resolves when some more requests were answered. */
  async rising(): Promise<void> {
    const count = async (): Promise<number> => (await this.tally().catch(() => ({ ok: 0 }))).ok;
    const start = await count();
    await until(`${this.#options.name} to be answered`, async () => (await count()) >= start + RISE);
  }

  #cat(file: string): Promise<string> {
    const { namespace, name } = this.#options;
    return this.#cluster.kubectl('exec', '-n', namespace, name, '--', 'cat', file);
  }
}
