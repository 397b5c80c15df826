/**
 * Callers' tokens from a file, for a lab without Kubernetes: a JSON object of token → whose it is. The file vouches for the node, so a
 * pod is neither named nor looked up. Changes are taken up at the next call; a bad file is reported and the last good one stays.
 */
import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { z } from 'zod';
import { CulvertError, describe } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { Authenticator, Caller } from '../authenticator.ts';

const name = z.string().min(1);
const schema = z.record(
  z.string().min(16, 'a token has 16 characters at least'),
  z.strictObject({ namespace: name, serviceAccount: name, node: name, pod: z.strictObject({ name, uid: name }).optional() }),
);

export class TokenFileAuthenticator implements Authenticator {
  readonly #path: string;
  readonly #log: Logger;
  /** by digest, so that comparing takes no time that tells of a token */
  #callers: ReadonlyMap<string, Caller> = new Map();
  /** state of the file that was read last, good or bad */
  #seen = '';

  private constructor(path: string, log: Logger) {
    this.#path = path;
    this.#log = log;
  }

  /** @throws CONFIG_INVALID naming every fault of the file */
  static async open(path: string, log: Logger): Promise<TokenFileAuthenticator> {
    const authenticator = new TokenFileAuthenticator(path, log);
    authenticator.#seen = await stateOf(path);
    authenticator.#callers = await readTokenFile(path);
    return authenticator;
  }

  async authenticate(token: string): Promise<Caller> {
    await this.#readAgain();
    const caller = this.#callers.get(digestOf(token));
    if (caller === undefined) throw new CulvertError('UNAUTHENTICATED', `accept token: it is not in ${this.#path}`);
    return caller;
  }

  async #readAgain(): Promise<void> {
    const seen = await stateOf(this.#path);
    if (seen === this.#seen) return;
    try {
      this.#callers = await readTokenFile(this.#path);
    } catch (error) {
      if (seen !== this.#seen) this.#log.error({ err: error }, `tokens stay as they were: ${describe(error)}`);
    }
    this.#seen = seen;
  }
}

/** Another text whenever the file may have another content; also says that it is not there. */
async function stateOf(path: string): Promise<string> {
  try {
    const { mode, mtimeMs, ctimeMs, ino, size } = await stat(path);
    return [mode, mtimeMs, ctimeMs, ino, size].join(' ');
  } catch (error) {
    return describe(error);
  }
}

async function readTokenFile(path: string): Promise<ReadonlyMap<string, Caller>> {
  try {
    const { mode } = await stat(path);
    if ((mode & 0o077) !== 0) throw new Error(`its mode is ${(mode & 0o777).toString(8)}, only its owner may have access (600)`);
    return readTokens(await readFile(path, 'utf8'));
  } catch (error) {
    throw new CulvertError('CONFIG_INVALID', `read tokens ${path}`, error);
  }
}

/** @returns callers by digest of their token @throws naming every fault; tokens are not repeated in it */
export function readTokens(text: string): ReadonlyMap<string, Caller> {
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    throw new Error('it is no JSON'); // the parser's own words quote the text
  }
  const result = schema.safeParse(content);
  if (!result.success) {
    const tokens = typeof content === 'object' && content !== null ? Object.keys(content) : [];
    const faults = result.error.issues.map((issue) => {
      const [token, ...rest] = issue.path;
      const message = issue.code === 'invalid_key' ? (issue.issues[0]?.message ?? issue.message) : issue.message;
      const where = rest.map((key) => `.${String(key)}`).join('');
      return token === undefined ? message : `entry ${String(tokens.indexOf(String(token)) + 1)}${where}: ${message}`;
    });
    throw new Error(faults.join('; '));
  }
  return new Map(
    Object.entries(result.data).map(([token, { namespace, serviceAccount, node }]) => [
      digestOf(token),
      { namespace, serviceAccount, node },
    ]),
  );
}

function digestOf(token: string): string {
  return createHash('sha256').update(token).digest('base64');
}
