/** The lab's truth, one YAML file (also the file source's): read and checked here for what building the lab needs. */
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { CulvertError, isSystem } from '../base/errors.ts';
import { mergeMesh } from '../sources/file/merge.ts';
import { meshSchema, type MeshDocument } from '../sources/file/schema.ts';

/** What design and README show; `culvert lab up` without --file builds it. */
export const defaultTopology = `nodes: [node1, node2]
namespaces:
  shop:   { labels: { istio.io/dataplane-mode: ambient } }
  legacy: { labels: {} }
pods:                       # name, namespace, node, serviceAccount, labels, annotations, command (default: echo server)
  - { name: client, namespace: shop,   node: node1, serviceAccount: client }
  - { name: web-1,  namespace: shop,   node: node1, serviceAccount: web, labels: { app: web } }
  - { name: web-2,  namespace: shop,   node: node2, serviceAccount: web, labels: { app: web } }
  - { name: old,    namespace: legacy, node: node2, serviceAccount: old, labels: { app: old } }
services:
  - { name: web, namespace: shop,   selector: { app: web }, ports: [ { port: 80, targetPort: 8080 } ] }
  - { name: old, namespace: legacy, selector: { app: old }, ports: [ { port: 80, targetPort: 8080 } ] }
policies: []                # Istio AuthorizationPolicy and PeerAuthentication objects
`;

export type Topology = MeshDocument;
export type TopologyPod = Topology['pods'][number];

/** Checked by the same rules as the file source's, so that a lab never starts on a file that its agents would refuse. @throws CulvertError CONFIG_INVALID naming every fault with its path */
export function parseTopology(text: string, file: string): Topology {
  const merged = mergeMesh({ mesh: { file, text }, annotations: [] });
  if (!merged.ok) throw new CulvertError('CONFIG_INVALID', `read topology: ${merged.faults.join('; ')}`);
  return meshSchema.parse(parse(text));
}

export function readTopology(path: string): { text: string; topology: Topology } {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new CulvertError(
      'CONFIG_INVALID',
      isSystem(error, 'ENOENT') ? `read topology: there is no file ${path}` : `read topology ${path}`,
      error,
    );
  }
  return { text, topology: parseTopology(text, path) };
}

export function podKey(item: { namespace: string; name: string }): string {
  return `${item.namespace}/${item.name}`;
}
