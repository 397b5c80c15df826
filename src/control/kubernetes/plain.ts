/** Kinds of which hardly more than the name is used. */
import { meshAnnotations } from '../../kubernetes/annotations.ts';
import type { KubeObject } from '../../kubernetes/api.ts';
import { Fields } from '../../kubernetes/fields.ts';
import type { Sharing } from '../../kubernetes/sharing.ts';
import type { NamespaceObject, NodeObject, ServiceAccountObject } from '../cluster.ts';

/** @throws SOURCE_INVALID with all faults */
export function namespaceRecord(object: KubeObject): NamespaceObject {
  return Fields.read('Namespace', object, (fields) => {
    const metadata = fields.at('metadata');
    return {
      kind: 'Namespace',
      name: metadata.required('name'),
      labels: metadata.map('labels'),
      annotations: meshAnnotations(metadata.map('annotations')),
      terminating: metadata.has('deletionTimestamp'),
    };
  });
}

/** @throws SOURCE_INVALID with all faults */
export function serviceAccountRecord(object: KubeObject, sharing: Sharing): ServiceAccountObject {
  return Fields.read('ServiceAccount', object, (fields) => {
    const metadata = fields.at('metadata');
    return {
      kind: 'ServiceAccount',
      namespace: sharing.text(metadata.required('namespace')),
      name: sharing.text(metadata.required('name')),
    };
  });
}

/** @throws SOURCE_INVALID with all faults */
export function nodeRecord(object: KubeObject): NodeObject {
  return Fields.read('Node', object, (fields) => {
    const metadata = fields.at('metadata');
    return { kind: 'Node', name: metadata.required('name'), labels: metadata.map('labels') };
  });
}
