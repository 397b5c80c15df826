/** What every reader of a pod wants of it. */
import type { Fields } from './fields.ts';
import type { Sharing } from './sharing.ts';

export interface PodBasics {
  namespace: string;
  name: string;
  uid: string;
  /** empty until scheduled */
  node: string;
  /** empty: none, as of the mirror pods that kubelets make of static ones */
  serviceAccount: string;
  labels: Record<string, string>;
  /** all: whoever keeps the pod for long keeps those that it reads */
  annotations: Record<string, string>;
  /** in the API's order; empty until it has some, and again when it has ended */
  ips: string[];
  hostNetwork: boolean;
}

/** @param fields of the whole object */
export function podBasics(fields: Fields, sharing: Sharing): PodBasics {
  const metadata = fields.at('metadata');
  const spec = fields.at('spec');
  return {
    namespace: sharing.text(metadata.required('namespace')),
    name: metadata.required('name'),
    uid: metadata.required('uid'),
    node: sharing.text(spec.text('nodeName')),
    serviceAccount: sharing.text(spec.text('serviceAccountName')),
    labels: sharing.map(metadata.map('labels')),
    annotations: metadata.map('annotations'),
    ips: addresses(fields.at('status')),
    hostNetwork: spec.flag('hostNetwork'),
  };
}

/** podIPs has them all; servers before dual stack have podIP only. */
function addresses(status: Fields): string[] {
  const all = status.list('podIPs').map((entry) => entry.text('ip'));
  return (all.length > 0 ? all : [status.text('podIP')]).filter((ip) => ip !== '');
}
