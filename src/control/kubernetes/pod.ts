/** Pods of the Kubernetes API as records. */
import { meshAnnotations } from '../../kubernetes/annotations.ts';
import type { KubeObject } from '../../kubernetes/api.ts';
import { Fields } from '../../kubernetes/fields.ts';
import { podBasics } from '../../kubernetes/pod.ts';
import type { Sharing } from '../../kubernetes/sharing.ts';
import type { PodObject } from '../cluster.ts';

const PHASES = ['Pending', 'Running', 'Succeeded', 'Failed', 'Unknown'] as const;

/** @throws SOURCE_INVALID with all faults */
export function podRecord(object: KubeObject, sharing: Sharing): PodObject {
  return Fields.read('Pod', object, (fields) => {
    const metadata = fields.at('metadata');
    const status = fields.at('status');
    const basics = podBasics(fields, sharing);
    const pod: PodObject = {
      kind: 'Pod',
      // An account is filled in by the API server, but for the mirror pods that kubelets make: nobody may have "default" for them.
      ...basics,
      annotations: sharing.map(meshAnnotations(basics.annotations)),
      phase: status.oneOf('phase', PHASES, 'Pending'),
      ready: status.list('conditions').some((condition) => condition.text('type') === 'Ready' && condition.text('status') === 'True'),
      terminating: metadata.has('deletionTimestamp'),
      ports: namedPorts(fields.at('spec')),
    };
    const owner = metadata.list('ownerReferences').find((reference) => reference.flag('controller'));
    if (owner !== undefined) pod.owner = { kind: sharing.text(owner.text('kind')), name: sharing.text(owner.text('name')) };
    return pod;
  });
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
