/** Policies of security.istio.io as records: their spec stays as it came, to be judged where it is translated. */
import { meshAnnotations } from '../../kubernetes/annotations.ts';
import type { KubeObject } from '../../kubernetes/api.ts';
import { Fields } from '../../kubernetes/fields.ts';
import type { PolicyObject } from '../cluster.ts';

/** @throws SOURCE_INVALID with all faults */
export function policyRecord(kind: PolicyObject['kind'], object: KubeObject): PolicyObject {
  return Fields.read(kind, object, (fields) => {
    const metadata = fields.at('metadata');
    const created = Date.parse(metadata.required('creationTimestamp'));
    if (Number.isNaN(created) && metadata.text('creationTimestamp') !== '') metadata.fault('creationTimestamp', 'is no time');
    return {
      kind,
      namespace: metadata.required('namespace'),
      name: metadata.required('name'),
      uid: metadata.required('uid'),
      generation: metadata.number('generation') ?? 0,
      created,
      annotations: meshAnnotations(metadata.map('annotations')),
      spec: fields.raw('spec'),
    };
  });
}
