/** Pods and services that most scenarios want, as objects for `Cluster.apply`. */
import type { KubeObject } from '../../../src/kubernetes/api.ts';
import { BUSYBOX_IMAGE } from './images.ts';

export interface AppOptions {
  namespace: string;
  name: string;
  /** default: wherever the scheduler puts it */
  node?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  /** default: BUSYBOX_IMAGE, which serves HTTP on 8080 */
  image?: string;
  command?: readonly string[];
  /** further fields of the container: probes, ports */
  container?: Record<string, unknown>;
  /** further fields of the spec: hostNetwork, volumes */
  spec?: Record<string, unknown>;
}

/** Ready as soon as it runs, unless it is given a probe; ends at once when it is deleted. */
export function appPod({ namespace, name, node, labels, annotations, image, command, container, spec }: AppOptions): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace, name, labels: { app: name, ...labels }, annotations: { ...annotations } },
    spec: {
      ...(node === undefined ? {} : { nodeSelector: { 'kubernetes.io/hostname': node } }),
      terminationGracePeriodSeconds: 1,
      containers: [
        {
          name: 'app',
          image: image ?? BUSYBOX_IMAGE,
          imagePullPolicy: 'Never',
          ...(command === undefined ? {} : { command }),
          ...container,
        },
      ],
      ...spec,
    },
  };
}

/** @param spec further fields: type, clusterIP, ipFamilyPolicy */
export function appService(
  namespace: string,
  name: string,
  selector: Record<string, string>,
  spec: Record<string, unknown> = {},
): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace, name },
    spec: { selector, ports: [{ port: 80, targetPort: 8080 }], ...spec },
  };
}
