/** etcd, kube-apiserver, controller-manager and scheduler of a cluster, in namespaces of their own. */
import { mkdirSync, readFileSync } from 'node:fs';
import { request } from 'node:https';
import { join } from 'node:path';
import { kubeBinary } from '../kubernetes/binary.ts';
import { Component } from '../kubernetes/component.ts';
import { createPki, type Pki } from '../kubernetes/pki.ts';
import { TOKEN_ISSUER } from '../kubernetes/tokens.ts';
import { until } from '../kubernetes/until.ts';
import { Enclosure } from './enclosure.ts';
import { API_PORT, API_SERVICE, CONTROL_PLANE, rangeOf, wireControlPlane, type Link } from './network.ts';

const READY_MS = 60_000;
const ETCD_URL = 'http://127.0.0.1:2379';
/** What the API server is called within the cluster. */
const NAMES = ['kubernetes', 'kubernetes.default', 'kubernetes.default.svc', 'kubernetes.default.svc.cluster.local'];

/** Lines of bash that make a router of a machine. */
export const FORWARDING = ['echo 1 >/proc/sys/net/ipv4/ip_forward', 'echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'];

export interface ControlPlaneOptions {
  dir: string;
  /** name for the network device on this machine that leads to it */
  device: string;
  /** path: executable for its first process */
  pause: string;
  dualStack: boolean;
  apiServerFlags: readonly string[];
}

export class ControlPlane {
  readonly enclosure: Enclosure;
  readonly pki: Pki;
  /** as seen from this machine */
  readonly url: string;
  readonly #link: Link;
  readonly #etcd: Component;
  readonly #apiServer: Component;
  readonly #others: readonly Component[];

  private constructor(enclosure: Enclosure, pki: Pki, link: Link, components: readonly [Component, Component, Component, Component]) {
    this.enclosure = enclosure;
    this.pki = pki;
    this.url = `https://${link.address}:${API_PORT}`;
    this.#link = link;
    [this.#etcd, this.#apiServer, ...this.#others] = components;
  }

  /** Starts etcd and the API server; `ready()` waits for it, and `startOthers()` starts what needs it. */
  static async start({ dir, device, pause, dualStack, apiServerFlags }: ControlPlaneOptions): Promise<ControlPlane> {
    mkdirSync(dir, { recursive: true });
    const enclosure = await Enclosure.start({ name: 'control-plane', dir, setup: FORWARDING, program: pause });
    try {
      const link = await wireControlPlane(enclosure, device, dualStack);
      const pki = await createPki(dir, [CONTROL_PLANE, API_SERVICE, link.address], NAMES);
      const kubelets = await pki.client('kubelet-client', 'O=system:masters,CN=kube-apiserver');
      const part = (name: string, flags: readonly string[]): Component =>
        new Component(name, [kubeBinary(), name, ...flags], join(dir, `${name}.log`), { enter: enclosure.enter, env: enclosure.env });
      const inside = `https://${CONTROL_PLANE}:${API_PORT}`;
      const access = async (user: string): Promise<string[]> => [
        ...['--kubeconfig', await pki.kubeconfig(user, `CN=system:${user}`, inside), '--leader-elect=false'],
      ];
      const etcd = part('etcd', [
        ...['--data-dir', join(dir, 'etcd'), '--unsafe-no-fsync', '--log-level', 'warn'],
        ...['--listen-client-urls', ETCD_URL, '--advertise-client-urls', ETCD_URL, '--listen-peer-urls', 'http://127.0.0.1:0'],
      ]);
      const apiServer = part('kube-apiserver', [
        ...['--etcd-servers', ETCD_URL, '--advertise-address', CONTROL_PLANE, '--secure-port', String(API_PORT)],
        ...['--service-cluster-ip-range', rangeOf('services', dualStack), '--authorization-mode', 'Node,RBAC'],
        ...['--enable-admission-plugins', 'NodeRestriction', '--allow-privileged', '--profiling=false'],
        ...['--client-ca-file', pki.ca, '--tls-cert-file', pki.serverCertificate, '--tls-private-key-file', pki.serverKey],
        ...['--service-account-issuer', TOKEN_ISSUER, '--service-account-key-file', pki.tokenPublicKey],
        ...['--service-account-signing-key-file', pki.tokenKey, '--kubelet-preferred-address-types', 'InternalIP'],
        ...['--kubelet-client-certificate', kubelets.certificate, '--kubelet-client-key', kubelets.key],
        ...['--kubelet-certificate-authority', pki.ca, ...apiServerFlags],
      ]);
      const controllers = part('kube-controller-manager', [
        ...(await access('kube-controller-manager')),
        ...['--service-account-private-key-file', pki.tokenKey, '--root-ca-file', pki.ca, '--use-service-account-credentials'],
        ...['--flex-volume-plugin-dir', join(dir, 'volume-plugins')], // the default would be made, on this machine
        ...['--kube-api-qps', '200', '--kube-api-burst', '400'],
      ]);
      const scheduler = part('kube-scheduler', [...(await access('kube-scheduler')), '--kube-api-qps', '200', '--kube-api-burst', '400']);
      const controlPlane = new ControlPlane(enclosure, pki, link, [etcd, apiServer, controllers, scheduler]);
      etcd.start();
      apiServer.start();
      return controlPlane;
    } catch (error) {
      await enclosure.close();
      throw error;
    }
  }

  async ready(): Promise<void> {
    const ca = readFileSync(this.pki.ca);
    await until(
      'the API server to be ready',
      () => {
        for (const component of [this.#etcd, this.#apiServer])
          if (!component.running) throw new Error(`${component.name} ended:\n${component.tail()}`);
        return isReady(`${this.url}/readyz`, ca);
      },
      READY_MS,
    );
  }

  startOthers(): void {
    for (const component of this.#others) component.start();
  }

  /** etcd keeps the objects. */
  killApiServer(): Promise<void> {
    return this.#apiServer.kill();
  }

  async restartApiServer(): Promise<void> {
    this.#apiServer.start();
    await this.ready();
  }

  /** by name, for measuring */
  pids(): Record<string, number> {
    return Object.fromEntries([this.#etcd, this.#apiServer, ...this.#others].map(({ name, pid }) => [name, pid]));
  }

  async close(): Promise<void> {
    await this.enclosure.close();
    await this.#link.close();
  }
}

/** Does it answer with 200? Nothing is kept alive: the server may be another one next time. */
function isReady(url: string, ca: Buffer): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = request(url, { ca, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    asked.setTimeout(1000, () => asked.destroy());
    asked.on('error', () => resolve(false));
    asked.end();
  });
}
