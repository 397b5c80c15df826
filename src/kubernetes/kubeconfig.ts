/**
 * What a kubeconfig says, with all that people put there: client certificates, token files, exec plugins, OIDC, proxies. That is
 * @kubernetes/client-node's trade; nothing else of it is used. Imported by name, so that the bundler can leave out most of the rest
 * (4.5 MB of generated classes, and 10 MB of memory in every process of ours).
 */
import type { RequestOptions } from 'node:https';
import { KubeConfig } from '@kubernetes/client-node';
import type { Access } from './credentials.ts';

export class Kubeconfig {
  readonly #config = new KubeConfig();

  /** @param context undefined: its current one. @throws when it cannot be read or has no such context */
  constructor(path: string, context: string | undefined) {
    this.#config.loadFromFile(path);
    if (context !== undefined) this.#config.setCurrentContext(context);
    const { currentContext } = this.#config;
    if (this.#config.getContextObject(currentContext) === null) throw new Error(`no context '${currentContext}' in ${path}`);
  }

  /** Its files are read again each time, a token file once a minute. */
  async access(): Promise<Access> {
    const cluster = this.#config.getCurrentCluster();
    if (cluster === null) throw new Error(`context '${this.#config.currentContext}' names no cluster`);
    const applied: RequestOptions = {};
    await this.#config.applyToHTTPSOptions(applied);
    // The agent that comes with it would keep the first certificates for ever; it is only needed to pass a proxy.
    const { agent, headers, ...options } = applied;
    const access: Access = { server: new URL(cluster.server), options: { ...options, headers: trimmed(headers) } };
    if (cluster.proxyUrl !== undefined && typeof agent === 'object') access.proxy = agent;
    return access;
  }
}

/** A token file that ends with a line break must not make the header invalid. */
function trimmed(headers: RequestOptions['headers']): Record<string, string> {
  const entries = Object.entries(headers ?? {});
  return Object.fromEntries(entries.flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value).trim()]])));
}
