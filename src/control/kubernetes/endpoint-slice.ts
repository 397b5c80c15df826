/** EndpointSlices of the Kubernetes API as records. */
import type { KubeObject } from '../../kubernetes/api.ts';
import { Fields } from '../../kubernetes/fields.ts';
import type { Sharing } from '../../kubernetes/sharing.ts';
import type { EndpointSliceObject } from '../cluster.ts';

const SERVICE_LABEL = 'kubernetes.io/service-name';

/** @throws SOURCE_INVALID with all faults */
export function endpointSliceRecord(object: KubeObject, sharing: Sharing): EndpointSliceObject {
  return Fields.read('EndpointSlice', object, (fields) => {
    const metadata = fields.at('metadata');
    if (!fields.has('addressType')) fields.fault('addressType', 'is missing');
    return {
      kind: 'EndpointSlice',
      namespace: sharing.text(metadata.required('namespace')),
      name: metadata.required('name'),
      service: sharing.text(metadata.at('labels').text(SERVICE_LABEL)),
      addressType: fields.oneOf('addressType', ['IPv4', 'IPv6', 'FQDN'], 'FQDN'),
      // A port without number stands for all of them, which no service of ours can use.
      ports: fields.list('ports').flatMap((port) => {
        const number = port.port('port');
        return number === undefined || port.text('protocol', 'TCP') !== 'TCP' ? [] : [{ name: port.text('name'), port: number }];
      }),
      endpoints: fields.list('endpoints').map((endpoint) => endpointOf(endpoint, sharing)),
    };
  });
}

function endpointOf(fields: Fields, sharing: Sharing): EndpointSliceObject['endpoints'][number] {
  // Unknown readiness counts as ready, says the API.
  const endpoint: EndpointSliceObject['endpoints'][number] = {
    addresses: fields.texts('addresses'),
    ready: fields.at('conditions').flag('ready', true),
  };
  const node = fields.text('nodeName');
  if (node !== '') endpoint.node = sharing.text(node);
  const zone = fields.text('zone');
  if (zone !== '') endpoint.zone = sharing.text(zone);
  if (fields.has('targetRef')) {
    const target = fields.at('targetRef');
    endpoint.target = {
      kind: target.text('kind'),
      namespace: sharing.text(target.text('namespace')),
      name: target.text('name'),
      uid: target.text('uid'),
    };
  }
  return endpoint;
}
