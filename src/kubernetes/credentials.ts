/**
 * Where the API server is and how to be let in: by the account of the pod we run in, or by a kubeconfig with whatever it says (client
 * certificates, token files, exec plugins, OIDC, proxies). The latter is @kubernetes/client-node's trade; nothing else of it is used,
 * and a replica in a cluster, which never loads it, is 60 MB smaller.
 */
import { readFileSync } from 'node:fs';
import type { Agent } from 'node:http';
import type { RequestOptions } from 'node:https';
import { isIPv6 } from 'node:net';
import { join } from 'node:path';
import type { KubeConfig } from '@kubernetes/client-node';
import { KubernetesError } from './errors.ts';

const ACCOUNT_DIR = '/var/run/secrets/kubernetes.io/serviceaccount';

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
  /** where a pod finds its account's token and the server's CA */
  accountDir?: string;
}

export class Credentials {
  readonly #options: CredentialsOptions;
  #config: Promise<KubeConfig> | undefined;

  constructor(options: CredentialsOptions) {
    this.#options = options;
  }

  /** Files are read again for each request (a kubeconfig's token file once a minute), so that rotated ones are taken up. */
  async access(): Promise<Access> {
    const { kubeconfig, context, accountDir = ACCOUNT_DIR } = this.#options;
    try {
      if (kubeconfig === undefined) return accessOfPod(accountDir);
      this.#config ??= load(kubeconfig, context);
      return await accessOfConfig(await this.#config);
    } catch (error) {
      this.#config = undefined; // a kubeconfig that was broken may be mended
      throw new KubernetesError('read credentials of the Kubernetes API', { status: 0 }, error);
    }
  }
}

function accessOfPod(dir: string): Access {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port = '443' } = process.env;
  if (host === undefined || host === '') throw new Error('no kubeconfig given, and this is no pod of a cluster');
  return {
    server: new URL(`https://${isIPv6(host) ? `[${host}]` : host}:${port}`),
    options: {
      ca: readFileSync(join(dir, 'ca.crt')),
      headers: { authorization: `Bearer ${readFileSync(join(dir, 'token'), 'utf8').trim()}` },
    },
  };
}

async function accessOfConfig(config: KubeConfig): Promise<Access> {
  const cluster = config.getCurrentCluster();
  if (cluster === null) throw new Error(`context '${config.currentContext}' names no cluster`);
  const applied: RequestOptions = {};
  await config.applyToHTTPSOptions(applied);
  // The agent that comes with it would keep the first certificates for ever; it is only needed to pass a proxy.
  const { agent, headers, ...options } = applied;
  const access: Access = { server: new URL(cluster.server), options: { ...options, headers: trimmed(headers) } };
  if (cluster.proxyUrl !== undefined && typeof agent === 'object') access.proxy = agent;
  return access;
}

async function load(path: string, context: string | undefined): Promise<KubeConfig> {
  const { KubeConfig } = await import('@kubernetes/client-node'); // takes half a second
  const config = new KubeConfig();
  config.loadFromFile(path);
  if (context !== undefined) config.setCurrentContext(context);
  if (config.getContextObject(config.currentContext) === null) throw new Error(`no context '${config.currentContext}' in ${path}`);
  return config;
}

/** A token file that ends with a line break must not make the header invalid. */
function trimmed(headers: RequestOptions['headers']): Record<string, string> {
  const entries = Object.entries(headers ?? {});
  return Object.fromEntries(entries.flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value).trim()]])));
}
