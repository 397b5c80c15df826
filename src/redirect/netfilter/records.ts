/**
 * Who is behind the redirect, kept over restarts of the agent: a small file per netns, named by its cookie. What state its rules are in
 * is the kernel's to say; that a netns is gone is seen by its cookie no longer being anywhere.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { replaceFile } from '../../base/atomic-file.ts';
import { describe } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';

const Schema = z.object({
  cookie: z.string().regex(/^\d+$/),
  uid: z.string(),
  namespace: z.string(),
  name: z.string(),
  netnsPath: z.string(),
  flags: z.object({ dns: z.boolean(), ingressMode: z.boolean(), markOnly: z.boolean() }),
  virtualInterfaces: z.array(z.string()),
  /** what the rules were made for; its `dns` is false where no tunnel listened for DNS */
  shape: z.object({ dns: z.boolean(), ingressMode: z.boolean(), virtualInterfaces: z.array(z.string()) }),
  /** that the node's set holds */
  addresses: z.array(z.string()),
  notes: z.object({ tables: z.array(z.string()).optional(), written: z.record(z.string(), z.string()).optional() }),
});

export type NetnsRecord = z.infer<typeof Schema>;

const SUFFIX = '.json';

export class Records {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
    mkdirSync(dir, { recursive: true, mode: 0o700 });
  }

  /** What cannot be read is left where it is, and said. */
  all(log: Logger): NetnsRecord[] {
    return readdirSync(this.#dir)
      .filter((name) => name.endsWith(SUFFIX))
      .flatMap((name) => {
        try {
          return [Schema.parse(JSON.parse(readFileSync(join(this.#dir, name), 'utf8')))];
        } catch (error) {
          log.error({ file: join(this.#dir, name), error: describe(error) }, 'record of an enrolled netns not read');
          return [];
        }
      });
  }

  /** Whole or not at all. Nothing waits for a disk: what it tells goes with the machine's power, and so may it. */
  write(record: NetnsRecord): void {
    replaceFile(this.#path(record.cookie), JSON.stringify(record), 0o600);
  }

  remove(cookie: bigint): void {
    rmSync(this.#path(String(cookie)), { force: true });
  }

  #path(cookie: string): string {
    return join(this.#dir, `${cookie}${SUFFIX}`);
  }
}
