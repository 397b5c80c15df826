/**
 * A big mesh on a real API server, quickly: pods spread over services, services over namespaces, pods over nodes. Also a program:
 * `scale.ts KUBECONFIG PODS SERVICES`.
 */
import { Slots } from '../../src/base/slots.ts';
import type { KubeApi } from '../../src/kubernetes/api.ts';
import { connectKubernetes } from '../../src/kubernetes/client.ts';
import { Objects } from './kubernetes/objects.ts';

const PARALLEL = 64;

export interface ScaleOptions {
  pods: number;
  services: number;
  /** default 50 */
  namespaces?: number;
  /** default 200 */
  nodes?: number;
  /** of every pod; default: captured by the mesh */
  annotations?: Record<string, string>;
}

export interface ScalePlan {
  nodes: string[];
  namespaces: string[];
  services: { namespace: string; name: string }[];
  pods: ScalePod[];
}

export interface ScalePod {
  namespace: string;
  name: string;
  service: string;
  node: string;
  ip: string;
}

/** What there will be, without asking a server: pod n is the n-th of its list, with the n-th address of 10.128.0.0/9. */
export function planScale({ pods, services, namespaces = 50, nodes = 200 }: ScaleOptions): ScalePlan {
  const count = (length: number, name: (index: number) => string): string[] => Array.from({ length }, (_, index) => name(index));
  const namespaceNames = count(namespaces, (index) => `team-${index}`);
  const nodeNames = count(nodes, (index) => `node-${index}`);
  const plan: ScalePlan = { nodes: nodeNames, namespaces: namespaceNames, services: [], pods: [] };
  for (let index = 0; index < services; index++)
    plan.services.push({ namespace: namespaceNames[index % namespaces]!, name: `service-${index}` });
  for (let index = 0; index < pods; index++) {
    const { namespace, name: service } = plan.services[index % services]!;
    plan.pods.push({
      namespace,
      name: `${service}-5d4f7c9b8-${index.toString(36).padStart(5, '0')}`,
      service,
      node: nodeNames[index % nodes]!,
      ip: `10.${128 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`,
    });
  }
  return plan;
}

/** Creates all of it: each service with an account of its own and the slice of its endpoints. */
export async function createScale(api: KubeApi, options: ScaleOptions): Promise<ScalePlan> {
  const plan = planScale(options);
  const objects = new Objects(api);
  const slots = new Slots(PARALLEL);
  const each = <T>(items: readonly T[], create: (item: T, index: number) => Promise<unknown>): Promise<unknown> =>
    Promise.all(items.map((item, index) => slots.run(() => create(item, index))));

  await each(plan.namespaces, (name) => objects.namespace(name, { 'istio.io/dataplane-mode': 'ambient' }));
  await each(plan.nodes, (name, index) =>
    objects.node(name, { 'topology.kubernetes.io/region': 'r1', 'topology.kubernetes.io/zone': `r1-${'abc'[index % 3]!}` }),
  );
  await each(plan.services, ({ namespace, name }) => objects.serviceAccount(namespace, name));
  await each(plan.services, ({ namespace, name }) =>
    objects.service({ namespace, name, selector: { app: name }, ports: [{ name: 'http', port: 80, targetPort: 8080 }] }),
  );
  const annotations = options.annotations ?? { 'ambient.istio.io/redirection': 'enabled' };
  await each(plan.pods, (pod) => createPod(objects, pod, annotations));
  const byService = Map.groupBy(plan.pods, (pod) => `${pod.namespace}/${pod.service}`);
  await each(plan.services, ({ namespace, name }) =>
    objects.endpointSlice({
      namespace,
      name: `${name}-x7k2p`,
      service: name,
      ports: [{ name: 'http', port: 8080 }],
      endpoints: (byService.get(`${namespace}/${name}`) ?? []).map((pod) => ({ address: pod.ip, node: pod.node, pod: pod.name })),
    }),
  );
  return plan;
}

function createPod(objects: Objects, pod: ScalePod, annotations: Record<string, string>): Promise<unknown> {
  const { namespace, name, service, node, ip } = pod;
  return objects.pod({
    namespace,
    name,
    node,
    serviceAccount: service,
    annotations,
    labels: { app: service, version: 'v1', 'pod-template-hash': '5d4f7c9b8', 'app.kubernetes.io/part-of': 'a-large-shop' },
    ports: [{ name: 'http', containerPort: 8080 }],
    owner: { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: `${service}-5d4f7c9b8` },
    ips: [ip],
  });
}

if (import.meta.filename === process.argv[1]) {
  const [kubeconfig, pods = '10000', services = '1000'] = process.argv.slice(2);
  if (kubeconfig === undefined) throw new Error('usage: scale.ts KUBECONFIG [PODS [SERVICES]]');
  const start = performance.now();
  await createScale(connectKubernetes({ kubeconfig, fieldManager: 'culvert-test' }), { pods: Number(pods), services: Number(services) });
  console.log(`${pods} pods in ${services} services: ${((performance.now() - start) / 1000).toFixed(1)} s`);
}
