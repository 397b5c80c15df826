/** Services of the Kubernetes API as records. */
import { meshAnnotations } from '../../kubernetes/annotations.ts';
import type { KubeObject } from '../../kubernetes/api.ts';
import { Fields } from '../../kubernetes/fields.ts';
import type { Sharing } from '../../kubernetes/sharing.ts';
import type { ServiceObject, ServicePort } from '../cluster.ts';

const TYPES = ['ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName'] as const;
const FAMILIES = ['IPv4', 'IPv6'] as const;

/** @throws SOURCE_INVALID with all faults */
export function serviceRecord(object: KubeObject, sharing: Sharing): ServiceObject {
  return Fields.read('Service', object, (fields) => {
    const metadata = fields.at('metadata');
    const spec = fields.at('spec');
    const first = spec.text('clusterIP');
    const all = spec.texts('clusterIPs');
    const service: ServiceObject = {
      kind: 'Service',
      namespace: sharing.text(metadata.required('namespace')),
      name: metadata.required('name'),
      labels: sharing.map(metadata.map('labels')),
      annotations: sharing.map(meshAnnotations(metadata.map('annotations'))),
      selector: sharing.map(spec.map('selector')),
      clusterIps: (all.length > 0 ? all : [first]).filter((ip) => ip !== '' && ip !== 'None'),
      headless: first === 'None' || all.includes('None'),
      type: spec.oneOf('type', TYPES, 'ClusterIP'),
      ports: spec
        .list('ports')
        .filter((port) => port.text('protocol', 'TCP') === 'TCP')
        .map(servicePort),
      publishNotReadyAddresses: spec.flag('publishNotReadyAddresses'),
      ipFamilies: spec.texts('ipFamilies').flatMap((family) => FAMILIES.find((known) => known === family) ?? []),
      internalTrafficPolicy: spec.oneOf('internalTrafficPolicy', ['Cluster', 'Local'], 'Cluster'),
    };
    const distribution = spec.text('trafficDistribution');
    if (distribution !== '') service.trafficDistribution = distribution;
    return service;
  });
}

function servicePort(fields: Fields): ServicePort {
  const number = fields.port('port');
  if (number === undefined && !fields.has('port')) fields.fault('port', 'is missing');
  const target = fields.raw('targetPort');
  if (target !== undefined && typeof target !== 'number' && typeof target !== 'string')
    fields.fault('targetPort', 'is neither number nor name');
  const port: ServicePort = {
    name: fields.text('name'),
    port: number ?? 0,
    targetPort: typeof target === 'number' || typeof target === 'string' ? target : (number ?? 0),
  };
  const protocol = fields.text('appProtocol');
  if (protocol !== '') port.appProtocol = protocol;
  return port;
}
