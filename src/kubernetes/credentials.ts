/**
 * Where the API server is and how to be let in: the pod's own service account, or a kubeconfig with whatever it says (client
 * certificates, token files, exec plugins, OIDC, proxies). @kubernetes/client-node knows all of them; nothing else of it is used.
 */
import type { Agent } from 'node:http';
import type { RequestOptions } from 'node:https';
import type { KubeConfig } from '@kubernetes/client-node';
import { KubernetesError } from './errors.ts';

export interface Access {
  server: URL;
  /** TLS material and headers for one request */
  options: Pick<RequestOptions, 'ca' | 'cert' | 'key' | 'auth' | 'servername' | 'rejectUnauthorized'> & { headers: Record<string, string> };
  /** the way through a proxy that the kubeconfig names */
  proxy?: Agent;
}

export interface CredentialsOptions {
  /** path; undefined: the account of the pod we run in */
  kubeconfig?: string;
  /** of the kubeconfig; undefined: its current one */
  context?: string;
}

export class Credentials {
  readonly #options: CredentialsOptions;
  #config: Promise<KubeConfig> | undefined;

  constructor(options: CredentialsOptions) {
    this.#options = options;
  }

  /** Files are read again for each request (a token at most 60 s old), so that rotated ones are taken up. */
  async access(): Promise<Access> {
    try {
      this.#config ??= load(this.#options);
      const config = await this.#config;
      const server = config.getCurrentCluster()?.server;
      if (server === undefined) throw new Error(`context '${config.currentContext}' names no cluster`);
      const applied: RequestOptions = {};
      await config.applyToHTTPSOptions(applied);
      // The agent that comes with it would keep the first certificates for ever; it is only needed to pass a proxy.
      const { agent, ...options } = applied;
      const access: Access = { server: new URL(server), options: { ...options, headers: trimmed(options.headers) } };
      if (config.getCurrentCluster()?.proxyUrl !== undefined && typeof agent === 'object') access.proxy = agent;
      return access;
    } catch (error) {
      this.#config = undefined; // a kubeconfig that was broken may be mended
      throw new KubernetesError('read credentials of the Kubernetes API', { status: 0 }, error);
    }
  }
}

async function load({ kubeconfig, context }: CredentialsOptions): Promise<KubeConfig> {
  // Loaded when first needed: it takes half a second, and most commands need none of it.
  const { KubeConfig } = await import('@kubernetes/client-node');
  const config = new KubeConfig();
  if (kubeconfig !== undefined) config.loadFromFile(kubeconfig);
  else if (process.env['KUBERNETES_SERVICE_HOST'] === undefined) throw new Error('no kubeconfig given, and this is no pod of a cluster');
  else config.loadFromCluster();
  if (context !== undefined) config.setCurrentContext(context);
  if (config.getContextObject(config.currentContext) === null)
    throw new Error(`no context '${config.currentContext}' in ${kubeconfig ?? 'it'}`);
  return config;
}

/** A token file that ends with a line break must not make the header invalid. */
function trimmed(headers: RequestOptions['headers']): Record<string, string> {
  const entries = Object.entries(headers ?? {});
  return Object.fromEntries(entries.flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value).trim()]])));
}
