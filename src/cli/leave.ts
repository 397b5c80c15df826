/**
 * `culvert leave`: the agents of a DaemonSet take their pods out of the mesh and everything off their nodes while they may still speak to
 * the API server. Helm's own uninstallation deletes their account and roles along with them, and what they can not do any more is the
 * annotation, by which others go on sending HBONE.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { CulvertError, describe } from '../base/errors.ts';
import type { KubeApi, KubeObject } from '../kubernetes/api.ts';
import type { Cli } from './main.ts';
import { answer, formatOption, type Format } from './output.ts';

const STEP_MS = 1_000;
/** Pods named while waiting; the end names all. */
const NAMED = 5;

interface LeaveOptions {
  daemonSet: string;
  timeoutMs: number;
  kubeconfig?: string;
  output?: Format;
}

export function addLeave(root: Command, cli: Cli): void {
  root
    .command('leave')
    .description('have all agents of a DaemonSet leave their nodes, with everything, and wait until they have; for before it is deleted')
    .requiredOption('--daemon-set <namespace/name>', 'of the agents; they are told by its nodeSelector, which no node meets any more')
    .option('--timeout-ms <ms>', 'how long to wait for its pods to be gone', Number, 120_000)
    .option('--kubeconfig <path>', 'of the API server; default: the account of the pod that this runs in')
    .addOption(formatOption())
    .action(async ({ daemonSet, timeoutMs, kubeconfig, output }: LeaveOptions) => {
      const [, namespace, name] = /^([a-z0-9.-]+)\/([a-z0-9.-]+)$/.exec(daemonSet) ?? [];
      if (namespace === undefined || name === undefined)
        throw new CulvertError('USAGE', `leave: --daemon-set must be "namespace/name", found "${daemonSet}"`);
      if (!(timeoutMs >= 0)) throw new CulvertError('USAGE', 'leave: --timeout-ms must be a number of milliseconds');
      const { connectKubernetes } = await import('../kubernetes/client.ts');
      const api = connectKubernetes({ ...(kubeconfig !== undefined && { kubeconfig }), fieldManager: 'culvert-leave' });
      try {
        const pods = await allLeft(new Leaving(api, namespace, name), daemonSet, timeoutMs, (what) => cli.io.err(`${what}\n`));
        await answer(cli.io, output, { daemonSet, pods }, () => ({ head: ['LEFT'], rows: pods.map((pod) => [pod]) }));
      } finally {
        api.close();
      }
    });
}

/**
 * What the API server refuses is asked again like everything else: it may not have read a role yet that is as new as this process.
 * @returns pods that went @throws CHECK_FAILED with what is left when the time is over
 */
async function allLeft(leaving: Leaving, what: string, timeoutMs: number, say: (what: string) => void): Promise<string[]> {
  const { NO_CREDENTIALS, isKubernetes } = await import('../kubernetes/errors.ts');
  const deadline = performance.now() + timeoutMs;
  const seen = new Set<string>();
  let said = '';
  for (;;) {
    let waitsFor: string;
    let whole: string;
    try {
      const pods = await leaving.look();
      if (pods === 'done') return [...seen];
      for (const pod of pods) seen.add(pod);
      const more = pods.length > NAMED ? ` and ${pods.length - NAMED} more` : '';
      waitsFor = pods.length === 0 ? 'the DaemonSet controller' : `${pods.slice(0, NAMED).join(', ')}${more}`;
      whole = pods.length === 0 ? 'the DaemonSet controller has not seen it' : `there are still ${pods.join(', ')}`;
    } catch (error) {
      if (isKubernetes(error) && error.reason === NO_CREDENTIALS) throw error;
      waitsFor = whole = describe(error);
    }
    if (performance.now() >= deadline) throw new CulvertError('CHECK_FAILED', `leave ${what}: after ${timeoutMs / 1000} s ${whole}`);
    if (waitsFor !== said) say(`waiting for ${waitsFor}`);
    said = waitsFor;
    await sleep(STEP_MS);
  }
}

/** One DaemonSet that lets go of its nodes. */
class Leaving {
  readonly #api: KubeApi;
  readonly #namespace: string;
  readonly #path: string;
  /** as it was when it had been told */
  #told: KubeObject | undefined;

  constructor(api: KubeApi, namespace: string, name: string) {
    this.#api = api;
    this.#namespace = namespace;
    this.#path = `/apis/apps/v1/namespaces/${namespace}/daemonsets/${name}`;
  }

  /** Tells it, once. @returns pods that it still has, by name; done: none, and there will be none @throws KubernetesError */
  async look(): Promise<string[] | 'done'> {
    const now = await this.#api.get(this.#path);
    if (this.#told === undefined) {
      if (now === undefined) return 'done';
      // The DaemonSet controller deletes pods of nodes that do not match, all at once, and makes none.
      const spec = { template: { spec: { nodeSelector: { 'culvert.dev/leave': 'yes' } } } };
      this.#told = await this.#api.patch(this.#path, { spec }, 'merge');
    }
    const pods = await this.#pods(this.#told);
    if (pods.length > 0) return pods;
    // Before the controller has seen it, one that is about to make a pod would still make it.
    const { observedGeneration = 0 } = (now?.['status'] ?? {}) as { observedGeneration?: number };
    return now === undefined || observedGeneration >= (this.#told.metadata.generation ?? 0) ? 'done' : [];
  }

  /** The labels are a first sieve: what else has them is not the DaemonSet's. */
  async #pods({ metadata: { uid }, ...daemonSet }: KubeObject): Promise<string[]> {
    const { matchLabels = {} } = (daemonSet['spec'] as { selector: { matchLabels?: Record<string, string> } }).selector;
    const labelSelector = Object.entries(matchLabels)
      .map(([key, value]) => `${key}=${value}`)
      .join();
    const { items } = await this.#api.list(`/api/v1/namespaces/${this.#namespace}/pods`, { labelSelector });
    return items
      .filter(({ metadata: { ownerReferences = [] } }) => ownerReferences.some((owner) => owner.uid === uid))
      .map(({ metadata: { name } }) => name)
      .toSorted();
  }
}
