/** Pods and namespaces of the Kubernetes API as the source tells of them. */
import { isMeshAnnotation, meshAnnotations } from '../../kubernetes/annotations.ts';
import type { KubeObject } from '../../kubernetes/api.ts';
import { Fields } from '../../kubernetes/fields.ts';
import { podBasics } from '../../kubernetes/pod.ts';
import type { Sharing } from '../../kubernetes/sharing.ts';
import { CONFIG_HASH_ANNOTATION, type NamespaceRecord, type PodRecord } from '../source.ts';

const CONTAINER_LISTS = ['containerStatuses', 'initContainerStatuses', 'ephemeralContainerStatuses'] as const;
const PHASES = ['Pending', 'Running', 'Succeeded', 'Failed', 'Unknown'] as const;

/** @throws SOURCE_INVALID with all faults */
export function podRecord(object: KubeObject, sharing: Sharing): PodRecord {
  return Fields.read('Pod', object, (fields) => {
    const { serviceAccount, annotations, ...basics } = podBasics(fields, sharing);
    const status = fields.at('status');
    const phase = status.oneOf('phase', PHASES, 'Pending');
    return {
      ...basics,
      serviceAccount: serviceAccount === '' ? 'default' : serviceAccount,
      annotations: sharing.map(kept(annotations)),
      containerIds: containerIds(status),
      // Nobody heard of it for a while: it has not ended for that.
      phase: phase === 'Unknown' ? 'Running' : phase,
    };
  });
}

/** @throws SOURCE_INVALID with all faults */
export function namespaceRecord(object: KubeObject): NamespaceRecord {
  return Fields.read('Namespace', object, (fields) => {
    const metadata = fields.at('metadata');
    return {
      name: metadata.required('name'),
      labels: metadata.map('labels'),
      annotations: meshAnnotations(metadata.map('annotations')),
    };
  });
}

/** Whether a pod's record has this annotation when the pod has it. */
export function isKept(annotation: string): boolean {
  return isMeshAnnotation(annotation) || annotation === CONFIG_HASH_ANNOTATION;
}

/** Of "containerd://3f2a…" what follows the runtime's name; of a container that has not started there is none. */
function containerIds(status: Fields): string[] {
  const ids = CONTAINER_LISTS.flatMap((list) => status.list(list)).map((container) => container.text('containerID'));
  return ids.map((id) => id.replace(/^[^:]*:\/\//, '')).filter((id) => id !== '');
}

function kept(annotations: Record<string, string>): Record<string, string> {
  const hash = annotations[CONFIG_HASH_ANNOTATION];
  const mesh = meshAnnotations(annotations);
  return hash === undefined ? mesh : { ...mesh, [CONFIG_HASH_ANNOTATION]: hash };
}
