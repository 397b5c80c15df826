/**
 * The root in the cluster: made once by whichever replica comes first, read by all, rotated by the one that leads. Changes of the
 * Secrets are taken up as they come; one that cannot be used is reported, and what was good stays in use. An operator's Secret
 * `cacerts` wins over ours while it is there.
 */
import { describe } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { createRoot, ROOT_LIFETIME_MS } from '../../identity/root.ts';
import type { KubeApi, KubeObject } from '../../kubernetes/api.ts';
import { isKubernetes } from '../../kubernetes/errors.ts';
import { Reflector } from '../../kubernetes/reflector.ts';
import type { CaMaterial } from './material.ts';
import { longestOf, newRootSecret, noteLongest, OPERATOR_SECRET, readCaSecret, ROOT_SECRET, secretPath } from './root-secret.ts';
import { advanceRotation, rootName, type RotationOptions } from './root-step.ts';

const CHECK_MS = 30_000;
/** Replicas that change the Secret at the same time go by turns, but not for ever. */
const ATTEMPTS = 5;

export interface RootStoreOptions extends RotationOptions {
  api: KubeApi;
  /** control's own */
  namespace: string;
  /** only the one that leads changes the Secret; all sign with it */
  isLeader: () => boolean;
  log: Logger;
  /** how often the time for the next step of a rotation is looked at */
  checkMs?: number;
}

export class RootStore {
  readonly #options: RootStoreOptions;
  readonly #listeners = new Set<(material: CaMaterial) => void>();
  readonly #reflectors: Reflector<KubeObject>[];
  readonly #timer: NodeJS.Timeout;
  /** as the cluster has them */
  readonly #secrets = new Map<string, KubeObject>();
  /** the last of ours that was good: written back if somebody deletes it */
  #good: KubeObject | undefined;
  #material: CaMaterial;
  #busy = false;
  #again: 'read' | 'step' | undefined;
  #closed = false;

  /**
   * Reads the Secret that is to be used, or makes ours.
   * @throws CERTIFICATE when it is there but cannot be used (it is never overwritten); KUBERNETES when the API cannot be asked
   */
  static async open(options: RootStoreOptions): Promise<RootStore> {
    const secret = (await options.api.get(secretPath(options.namespace, OPERATOR_SECRET))) ?? (await ownSecret(options));
    return new RootStore(options, secret, await readCaSecret(secret));
  }

  private constructor(options: RootStoreOptions, secret: KubeObject, material: CaMaterial) {
    this.#options = options;
    this.#material = material;
    if (secret.metadata.name === ROOT_SECRET) this.#good = secret;
    this.#secrets.set(secret.metadata.name, secret);
    this.#reflectors = [OPERATOR_SECRET, ROOT_SECRET].map((name) => this.#watch(name));
    this.#timer = setInterval(() => this.#wake('step'), options.checkMs ?? CHECK_MS).unref();
  }

  get material(): CaMaterial {
    return this.#material;
  }

  /** After every change of the Secret in use that can be used. */
  onMaterial(listener: (material: CaMaterial) => void): { close(): void } {
    this.#listeners.add(listener);
    return { close: () => this.#listeners.delete(listener) };
  }

  /**
   * Certificates of more life than the overlap make the next rotation slower: written down before the first is handed out, by whichever
   * replica does, since another may lead then.
   * @throws KUBERNETES when that cannot be done now
   */
  async reserve(lifetimeMs: number): Promise<void> {
    const { api, namespace, overlapMs } = this.#options;
    let secret = this.#secrets.get(ROOT_SECRET);
    for (let attempt = 1; ; attempt++) {
      // The operator's own root is not rotated by us.
      if (lifetimeMs <= overlapMs || secret === undefined || this.#secrets.has(OPERATOR_SECRET) || longestOf(secret) >= lifetimeMs) return;
      try {
        await api.replace(secretPath(namespace, ROOT_SECRET), noteLongest(secret, lifetimeMs));
        return;
      } catch (error) {
        if (!isKubernetes(error, 409) || attempt >= ATTEMPTS) throw error;
        secret = await api.get(secretPath(namespace, ROOT_SECRET));
      }
    }
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    for (const reflector of this.#reflectors) reflector.close();
  }

  #watch(name: string): Reflector<KubeObject> {
    const { api, namespace, log } = this.#options;
    const query = { fieldSelector: `metadata.name=${name}` };
    const reflector = new Reflector<KubeObject>(
      { api, path: secretPath(namespace), query, log, convert: (object) => object },
      {
        onChanges: (changes) => {
          const last = changes.at(-1)?.value; // of one object
          if (last === undefined) this.#secrets.delete(name);
          else this.#secrets.set(name, last);
          this.#wake('read');
        },
        onSynced: () => {
          // What was read at the start may have gone since; the list says nothing of what is not there.
          if (reflector.keys().length === 0 && this.#secrets.delete(name)) this.#wake('read');
        },
        onError: (error) => log.warn({ err: error }, `watch secret ${namespace}/${name}: ${describe(error)}`),
      },
    );
    reflector.start();
    return reflector;
  }

  /** One piece of work at a time, on the newest state; what comes meanwhile is done afterwards, once. */
  #wake(what: 'read' | 'step'): void {
    if (this.#again !== 'read') this.#again = what;
    if (this.#busy) return;
    this.#busy = true;
    void this.#work().finally(() => (this.#busy = false));
  }

  async #work(): Promise<void> {
    while (this.#again !== undefined && !this.#closed) {
      const read = this.#again === 'read';
      this.#again = undefined;
      const usable = read ? await this.#read() : true;
      if (usable) await this.#step();
    }
  }

  /** @returns whether the Secret in use can be used */
  async #read(): Promise<boolean> {
    const { namespace, log } = this.#options;
    const secret = this.#secrets.get(OPERATOR_SECRET) ?? this.#secrets.get(ROOT_SECRET);
    if (secret === undefined) {
      log.error(
        `read CA: neither secret ${namespace}/${ROOT_SECRET} nor ${namespace}/${OPERATOR_SECRET} is there; what was read stays in use`,
      );
      return true;
    }
    try {
      const material = await readCaSecret(secret);
      if (this.#closed) return false;
      if (secret.metadata.name === ROOT_SECRET) this.#good = secret;
      this.#install(secret.metadata.name, material);
      return true;
    } catch (error) {
      log.error({ err: error }, `CA stays as it was: ${describe(error)}`);
      return false;
    }
  }

  #install(name: string, material: CaMaterial): void {
    const { log } = this.#options;
    const before = this.#material;
    this.#material = material;
    const { certificate } = material.signer;
    if (!before.signer.certificate.raw.equals(certificate.raw)) {
      log.info(
        { secret: name, signer: certificate.serialNumber, notAfter: certificate.validToDate.toISOString() },
        'CA signs with another certificate',
      );
      const [root = ''] = material.roots.split(/(?<=-----END CERTIFICATE-----\n)/);
      if (!before.roots.includes(root))
        log.warn(
          { secret: name },
          'the new root was not trusted before: peers refuse each other until both have renewed their certificates',
        );
    }
    for (const listener of [...this.#listeners]) listener(material);
  }

  async #step(): Promise<void> {
    const { api, namespace, isLeader, log } = this.#options;
    if (this.#closed || this.#secrets.has(OPERATOR_SECRET) || !isLeader()) return;
    const secret = this.#secrets.get(ROOT_SECRET);
    try {
      if (secret === undefined) await this.#writeBack();
      else {
        const done = await advanceRotation(api, namespace, secret, this.#options);
        if (done !== undefined) log.info({ step: done.step }, `root rotation: ${done.step}: ${done.why}`);
      }
    } catch (error) {
      // 409: somebody was faster; the watch tells what is there now.
      if (!isKubernetes(error, 409)) log.error({ err: error }, `rotate root: ${describe(error)}`);
    }
  }

  /** A deleted Secret would be a new root after the next start, which nobody trusts. */
  async #writeBack(): Promise<void> {
    const { api, namespace, log } = this.#options;
    if (this.#good === undefined) return;
    const { name, labels = {}, annotations = {} } = this.#good.metadata;
    await api.create(secretPath(namespace), { ...this.#good, metadata: { name, namespace, labels, annotations } });
    log.warn(`secret ${namespace}/${name} was deleted: written again`);
  }
}

async function ownSecret({ api, namespace, rootLifetimeMs = ROOT_LIFETIME_MS, log }: RootStoreOptions): Promise<KubeObject> {
  for (let attempt = 1; ; attempt++) {
    const there = await api.get(secretPath(namespace, ROOT_SECRET));
    if (there !== undefined) return there;
    try {
      const made = await api.create(
        secretPath(namespace),
        newRootSecret(namespace, await createRoot({ name: rootName(), lifetimeMs: rootLifetimeMs })),
      );
      log.info(`secret ${namespace}/${ROOT_SECRET} made, with a new root`);
      return made;
    } catch (error) {
      if (!isKubernetes(error, 409) || attempt >= ATTEMPTS) throw error;
    }
  }
}
