/**
 * Keeps the plugin installed: executable first, then its entry, and again whenever somebody takes one of them away. Nothing is written
 * while all is well.
 */
import { describe, isCulvert } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { Executable } from './executable.ts';
import { installConf, type ConfOptions, type ConfResult } from './host.ts';
import { Throttle } from './throttle.ts';
import { DirectoryWatches } from './watch.ts';

export interface InstallationOptions extends ConfOptions {
  /** the executable to install */
  plugin: string;
  binDir: string;
}

export interface InstallationState {
  /** executable and entry are there */
  ready: boolean;
  /** name of the file that has our entry; undefined: none has */
  file: string | undefined;
  /** why it is not ready; "" when it is */
  reason: string;
}

/** Each installation by its result, as istio-cni counts them. */
export type InstallResult = 'SUCCESS' | 'COPY_BINARIES_FAILURE' | 'CREATE_CNI_CONFIG_FAILURE';

export interface InstallationListener {
  onChange?(state: InstallationState): void;
}

/** Time for somebody who writes several files, or one in several pieces. */
const SETTLE_MS = 50;
/** While a directory is missing, or something could not be written: no event tells when that is over. Doubled up to the second. */
const RETRY_MS = 500;
const MAX_RETRY_MS = 30_000;
/** A file system mounted over a directory is no event, either. */
const RECHECK_MS = 60_000;

export class Installation {
  readonly installs: Record<InstallResult, number> = { SUCCESS: 0, COPY_BINARIES_FAILURE: 0, CREATE_CNI_CONFIG_FAILURE: 0 };
  readonly #options: InstallationOptions;
  readonly #log: Logger;
  readonly #listener: InstallationListener;
  readonly #executable: Executable;
  readonly #watches: DirectoryWatches;
  readonly #throttle: Throttle;
  readonly #warned = new Set<string>();
  #state: InstallationState = { ready: false, file: undefined, reason: 'not looked yet' };
  #timer: NodeJS.Timeout | undefined;
  /** when the timer ends, by performance.now() */
  #due = Infinity;
  #running: Promise<void> | undefined;
  /** in a row */
  #failures = 0;
  #closed = false;

  constructor(options: InstallationOptions, log: Logger, listener: InstallationListener = {}, throttle = new Throttle()) {
    this.#options = options;
    this.#log = log;
    this.#listener = listener;
    this.#throttle = throttle;
    this.#executable = new Executable(options.plugin, options.binDir);
    this.#watches = new DirectoryWatches([options.binDir, options.confDir], () => this.#schedule(this.#pause()));
  }

  get state(): InstallationState {
    return this.#state;
  }

  get ready(): boolean {
    return this.#state.ready;
  }

  /**
   * Installs, and goes on watching. Resolves also while there is no network configuration to join: it is waited for.
   * @throws CONFIG_INVALID, CONFLIST_INVALID, SYSTEM: what nobody but an operator can mend; it is closed then
   */
  async start(): Promise<void> {
    try {
      await this.#run();
    } catch (error) {
      if (isCulvert(error, 'CONFLIST_CHANGED')) return;
      await this.close();
      throw error;
    }
  }

  /** Leaves everything where it is; `uninstall` takes it away. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#running?.catch(() => undefined);
    this.#watches.close();
  }

  /** What is due earlier stays: a stream of events must not put a look off for ever. */
  #schedule(ms: number): void {
    const due = performance.now() + ms;
    if (this.#closed || due >= this.#due) return;
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = setTimeout(() => {
      this.#due = Infinity;
      if (this.#running !== undefined) this.#schedule(SETTLE_MS);
      else this.#run().catch((error: unknown) => this.#warnOnce({ error: describe(error) }, 'installation failed, will be tried again'));
    }, ms);
  }

  /** Before looking after an event: our own failed attempts and repairs are events, too. */
  #pause(): number {
    return Math.max(SETTLE_MS, this.#throttle.delay(), this.#failures > 0 ? this.#retryDelay() : 0);
  }

  #retryDelay(): number {
    return Math.min(RETRY_MS * 2 ** this.#failures, MAX_RETRY_MS);
  }

  #run(): Promise<void> {
    return (this.#running = this.#look().finally(() => (this.#running = undefined)));
  }

  async #look(): Promise<void> {
    let missing = this.#watches.rearm();
    let unseen = false;
    try {
      await this.#install();
      this.#failures = 0;
      if (missing.length > 0) {
        missing = this.#watches.rearm(); // it may be there by our own doing
        unseen = true; // what happened since the look, and was not told yet, went with the old watches
      }
    } catch (error) {
      this.#failures++;
      throw error;
    } finally {
      this.#schedule(missing.length > 0 || this.#failures > 0 ? this.#retryDelay() : unseen ? SETTLE_MS : RECHECK_MS);
    }
  }

  async #install(): Promise<void> {
    let result: InstallResult = 'COPY_BINARIES_FAILURE';
    try {
      const copied = await this.#executable.install();
      result = 'CREATE_CNI_CONFIG_FAILURE';
      const conf = await installConf(this.#options);
      if (copied || conf.changed.length > 0) {
        result = 'SUCCESS';
        this.installs.SUCCESS++;
        this.#written(copied, conf.changed);
      }
      this.#settle(conf);
    } catch (error) {
      if (result !== 'SUCCESS') this.installs[result]++;
      this.#become({ ready: false, file: undefined, reason: describe(error) });
      throw error;
    }
  }

  #written(copied: boolean, changed: string[]): void {
    this.#log.info({ executable: copied ? this.#executable.path : undefined, files: changed }, 'plugin installed');
    if (!this.#throttle.repaired()) return;
    this.#log.warn(
      { files: changed },
      'the plugin is taken away again and again: another program owns this directory; with Cilium set cni.exclusive=false, with others use own-config mode',
    );
  }

  #settle({ file, skipped }: ConfResult): void {
    for (const { name, faults } of skipped)
      this.#warnOnce({ file: name, faults }, 'file is no valid network configuration, skipped as runtimes do');
    if (file === undefined) {
      const wanted = this.#options.confName ?? 'network configuration';
      const bad = skipped.map(({ name, faults }) => `; ${name}: ${faults.join(', ')}`).join('');
      this.#become({ ready: false, file, reason: `waiting: there is no ${wanted} in ${this.#options.confDir} yet${bad}` });
    } else {
      this.#become({ ready: true, file, reason: '' });
      if (skipped.length === 0) this.#warned.clear();
    }
  }

  #become(state: InstallationState): void {
    const { ready, file, reason } = this.#state;
    if (ready === state.ready && file === state.file && reason === state.reason) return;
    this.#state = state;
    this.#log.info(state, state.ready ? 'plugin is in place' : 'plugin is not in place');
    this.#listener.onChange?.(state);
  }

  /** The same fault is met again at every event. */
  #warnOnce(fields: object, message: string): void {
    const key = JSON.stringify(fields);
    if (this.#warned.has(key) || this.#warned.size > 100) return;
    this.#warned.add(key);
    this.#log.warn(fields, message);
  }
}
