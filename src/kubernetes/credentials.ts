/** Where the API server is and how to be let in: by the account of the pod we run in, or by a kubeconfig. */
import { readFileSync } from 'node:fs';
import type { Agent } from 'node:http';
import type { RequestOptions } from 'node:https';
import { isIPv6 } from 'node:net';
import { join } from 'node:path';
import { KubernetesError, NO_CREDENTIALS } from './errors.ts';
import type { Kubeconfig } from './kubeconfig.ts';

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
  #kubeconfig: Promise<Kubeconfig> | undefined;

  constructor(options: CredentialsOptions) {
    this.#options = options;
  }

  /** Files are read again for each request (a kubeconfig's token file once a minute), so that rotated ones are taken up. */
  async access(): Promise<Access> {
    const { kubeconfig, context, accountDir = ACCOUNT_DIR } = this.#options;
    try {
      if (kubeconfig === undefined) return accessOfPod(accountDir);
      // Loaded only where one is used: it takes half a second and 60 MB, which no replica in a cluster needs.
      this.#kubeconfig ??= import('./kubeconfig.ts').then(({ Kubeconfig }) => new Kubeconfig(kubeconfig, context));
      return await (await this.#kubeconfig).access();
    } catch (error) {
      this.#kubeconfig = undefined; // a kubeconfig that was broken may be mended
      throw new KubernetesError('read credentials of the Kubernetes API', { status: 0, reason: NO_CREDENTIALS }, error);
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
