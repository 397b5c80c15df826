/**
 * What the datapath says of pods that it cannot serve as they should be (a listener with a mark of its own, masqueraded node traffic):
 * kept, so that listing 500 pods enters no network namespace, and told once in the log and as an Event on the pod.
 */
import { describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Registry, Entry } from '../enrol/registry.ts';
import type { RedirectDriver } from '../redirect/driver.ts';
import type { Source } from '../sources/source.ts';

export interface DatapathWarningsOptions {
  driver: Pick<RedirectDriver, 'warnings' | 'onWarnings'>;
  registry: Pick<Registry, 'byCookie' | 'all'>;
  event: Source['event'];
  log: Logger;
}

export class DatapathWarnings {
  readonly #o: DatapathWarningsOptions;
  readonly #known = new Map<bigint, string[]>();
  /** told before their pod was known by its cookie */
  readonly #unclaimed = new Set<bigint>();
  readonly #listening: { close(): void };

  constructor(options: DatapathWarningsOptions) {
    this.#o = options;
    this.#listening = options.driver.onWarnings((cookie) => this.#read(cookie));
  }

  /** One sentence each; empty for a pod without a datapath. */
  of({ pod }: Entry): readonly string[] {
    return pod.subject.cookie === undefined ? [] : (this.#known.get(pod.subject.cookie) ?? []);
  }

  /** Every few seconds. */
  tick(): void {
    const unclaimed = [...this.#unclaimed];
    this.#unclaimed.clear();
    const cookies = new Set(this.#o.registry.all().map(({ pod }) => pod.subject.cookie));
    for (const cookie of unclaimed) if (cookies.has(cookie)) this.#read(cookie);
    for (const cookie of this.#known.keys()) if (!cookies.has(cookie)) this.#known.delete(cookie);
  }

  close(): void {
    this.#listening.close();
  }

  #read(cookie: bigint): void {
    const entry = this.#o.registry.byCookie(cookie);
    if (entry === undefined) this.#unclaimed.add(cookie);
    if (entry?.pod.subject.netns === undefined) return;
    const { netns, uid, namespace, name } = entry.pod.subject;
    const pod = `${namespace}/${name}`;
    try {
      const before = this.of(entry);
      const sentences = this.#o.driver.warnings(cookie, netns.fd);
      this.#known.set(cookie, sentences);
      for (const message of sentences) {
        if (before.includes(message)) continue;
        this.#o.log.warn({ pod }, message);
        this.#o.event?.({ uid, namespace, name }, { type: 'Warning', reason: 'DatapathLimited', message });
      }
    } catch (error) {
      this.#o.log.warn({ pod, error: describe(error) }, 'warnings of the datapath not read');
    }
  }
}
