/**
 * The sandboxes that the plugin announced by ADD: container id and interface → netns and pod. A DEL may come with nothing but the
 * container id, up to three times, long after the next sandbox of the same pod is there; only who remembers which netns the id stood
 * for can tell them apart. Every ADD is remembered, also of pods that are not in the mesh: they may be labelled later.
 *
 * One small file each, so that an ADD costs one write however many pods there are, and a new agent knows what the last one did. They
 * live beside the sockets: a reboot, which ends every sandbox, empties that directory. Not synced to disk for the same reason.
 * Entries whose DEL came while the agent was away are pruned once their netns is gone.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { replaceFile } from '../base/atomic-file.ts';
import { CulvertError, describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';

const schema = z.object({
  network: z.string(),
  containerId: z.string(),
  ifname: z.string(),
  netns: z.string(),
  podNamespace: z.string(),
  podName: z.string(),
  podUid: z.string(),
});

export type Attachment = z.infer<typeof schema>;

export class Attachments {
  readonly #directory: string;
  readonly #log: Logger;
  /** by file name */
  readonly #known = new Map<string, Attachment>();

  /** Reads what the agent before this one left. @throws CulvertError SYSTEM */
  constructor(directory: string, log: Logger) {
    this.#directory = directory;
    this.#log = log;
    try {
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      for (const name of readdirSync(directory)) this.#read(name);
    } catch (error) {
      throw new CulvertError('SYSTEM', `read attachments in ${directory}`, error);
    }
    this.prune();
  }

  /** On file when it returns. Another container that had the same interface of the same netns is forgotten. */
  remember(attachment: Attachment): void {
    const { network, containerId, ifname, netns, podNamespace, podName, podUid } = attachment;
    for (const other of this.inNetns(netns)) if (other.ifname === ifname && other.containerId !== containerId) this.forget(other);
    const name = fileName(attachment);
    this.#known.set(name, { network, containerId, ifname, netns, podNamespace, podName, podUid });
    const path = join(this.#directory, name);
    try {
      replaceFile(path, JSON.stringify(this.#known.get(name)), 0o600);
    } catch (error) {
      // no reason to refuse a pod: what is lost is a DEL by container id alone after the next start of the agent
      this.#log.warn({ file: path, error: describe(error) }, 'attachment not written');
    }
  }

  forget(attachment: Attachment): void {
    const name = fileName(attachment);
    if (!this.#known.delete(name)) return;
    try {
      rmSync(join(this.#directory, name), { force: true });
    } catch (error) {
      this.#log.warn({ file: name, error: describe(error) }, 'attachment not removed; a later start of the agent tries again');
    }
  }

  /** @param ifname "" for all of the container's */
  of(containerId: string, ifname: string): Attachment[] {
    return [...this.#known.values()].filter((a) => a.containerId === containerId && (ifname === '' || a.ifname === ifname));
  }

  /** @param uids of one pod: the runtime's may differ from the source's */
  ofPod(uids: readonly string[]): Attachment[] {
    return [...this.#known.values()].filter((a) => uids.includes(a.podUid));
  }

  inNetns(netns: string): Attachment[] {
    return [...this.#known.values()].filter((a) => a.netns === netns);
  }

  inNetwork(network: string): Attachment[] {
    return [...this.#known.values()].filter((a) => a.network === network);
  }

  /** Forgets those whose netns is gone. */
  prune(): void {
    for (const attachment of [...this.#known.values()]) if (!existsSync(attachment.netns)) this.forget(attachment);
  }

  #read(name: string): void {
    const path = join(this.#directory, name);
    try {
      const attachment = schema.parse(JSON.parse(readFileSync(path, 'utf8')));
      if (fileName(attachment) !== name) throw new Error('its name is another one'); // half-written ones end with .tmp
      this.#known.set(name, attachment);
    } catch (error) {
      this.#log.warn({ file: path, error: describe(error) }, 'attachment not read; removed');
      rmSync(path, { recursive: true, force: true });
    }
  }
}

/** Neither part can hold an @; both were checked where they came in. */
function fileName({ containerId, ifname }: Pick<Attachment, 'containerId' | 'ifname'>): string {
  return `${containerId}@${ifname}.json`;
}
