/** Pods of the Kubernetes API as records. */
import type { KubeObject } from '../../kubernetes/api.ts';
import type { PodObject } from '../cluster.ts';
import { meshAnnotations } from './annotations.ts';
import { Fields } from './fields.ts';
import type { Sharing } from './sharing.ts';

const PHASES = ['Pending', 'Running', 'Succeeded', 'Failed', 'Unknown'] as const;

/** @throws SOURCE_INVALID with all faults */
export function podRecord(object: KubeObject, sharing: Sharing): PodObject {
  return Fields.read('Pod', object, (fields) => {
    const metadata = fields.at('metadata');
    const spec = fields.at('spec');
    const status = fields.at('status');
    const pod: PodObject = {
      kind: 'Pod',
      namespace: sharing.text(metadata.required('namespace')),
      name: metadata.required('name'),
      uid: metadata.required('uid'),
      node: sharing.text(spec.text('nodeName')),
      // The API server fills it in, but for the mirror pods that kubelets make: those have none, and nobody may have "default" for them.
      serviceAccount: sharing.text(spec.text('serviceAccountName')),
      labels: sharing.map(metadata.map('labels')),
      annotations: sharing.map(meshAnnotations(metadata.map('annotations'))),
      ips: addresses(status),
      hostNetwork: spec.flag('hostNetwork'),
      phase: status.oneOf('phase', PHASES, 'Pending'),
      ready: status.list('conditions').some((condition) => condition.text('type') === 'Ready' && condition.text('status') === 'True'),
      terminating: metadata.has('deletionTimestamp'),
      ports: namedPorts(spec),
    };
    const owner = metadata.list('ownerReferences').find((reference) => reference.flag('controller'));
    if (owner !== undefined) pod.owner = { kind: sharing.text(owner.text('kind')), name: sharing.text(owner.text('name')) };
    return pod;
  });
}

/** podIPs has them all; servers before dual stack have podIP only. */
function addresses(status: Fields): string[] {
  const all = status.list('podIPs').map((entry) => entry.text('ip'));
  return (all.length > 0 ? all : [status.text('podIP')]).filter((ip) => ip !== '');
}

/** Of containers, and of init containers that go on running (sidecars): where a service's port name is looked up. */
function namedPorts(spec: Fields): PodObject['ports'] {
  const sidecars = spec.list('initContainers').filter((container) => container.text('restartPolicy') === 'Always');
  return [...spec.list('containers'), ...sidecars]
    .flatMap((container) => container.list('ports'))
    .filter((port) => port.text('name') !== '' && port.text('protocol', 'TCP') === 'TCP')
    .map((port) => ({ name: port.text('name'), port: port.number('containerPort') ?? 0 }))
    .filter(({ port }) => port > 0);
}
