/**
 * The map `settings`: what the programs obey while they run. One value of several words that is written whole, so whoever changes one
 * word does it here. Only the agent that holds the pins writes it.
 */
import type { Maps, ValueOf } from '../../maps/index.ts';

type Value = ValueOf<'settings'>;

export class Settings {
  readonly #maps: Pick<Maps, 'settings'>;
  #value: Value;

  /** Starts from what is in force: an agent that restarts changes nothing by it. */
  constructor(maps: Pick<Maps, 'settings'>) {
    this.#maps = maps;
    this.#value = maps.settings.get(0) ?? { event_mask: 0, istio_probes: 0 };
  }

  get(word: keyof Value): number {
    return this.#value[word];
  }

  set(change: Partial<Value>): void {
    const value = { ...this.#value, ...change };
    this.#maps.settings.set(0, value);
    this.#value = value;
  }
}
