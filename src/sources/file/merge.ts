/**
 * The documents of a mesh directory made into one MeshSnapshot. Pure: text in, snapshot or faults out. Every fault names file,
 * path and value, and all are reported at once: who edits a file by hand should not learn of them one by one.
 */
import type { z } from 'zod';
import type { MeshSnapshot, PodRecord, ServiceRecord } from '../source.ts';
import { readDocument, type ReadDocuments } from './read.ts';
import { annotationsSchema, labSchema, meshSchema, type AnnotationsDocument, type LabDocument, type MeshDocument } from './schema.ts';

/** State that agents write for their own pods; in the file of truth it would make peers send HBONE to a pod that is not captured. */
const REDIRECTION = 'ambient.istio.io/redirection';

export interface MeshText {
  /** name for messages, and the YAML */
  mesh: { file: string; text: string };
  lab?: { file: string; text: string } | undefined;
  annotations: { file: string; text: string }[];
}

export type Merged = { ok: true; snapshot: MeshSnapshot } | { ok: false; faults: string[] };

/** @param known what was read before: a document whose text is the same is not read again */
export function mergeMesh(input: MeshText, known: ReadDocuments = new Map()): Merged {
  const faults: string[] = [];
  const read = <S extends z.ZodType>(source: { file: string; text: string }, schema: S): z.infer<S> | undefined => {
    const document = readDocument(source, schema, known);
    if ('value' in document) return document.value;
    faults.push(...document.faults);
    return undefined;
  };
  const mesh = read(input.mesh, meshSchema);
  const lab = input.lab === undefined ? labSchema.parse({}) : read(input.lab, labSchema);
  const annotations = input.annotations.map((file) => read(file, annotationsSchema));
  if (mesh === undefined || lab === undefined || annotations.includes(undefined)) return { ok: false, faults };

  checkMesh(mesh, input.mesh.file, faults);
  checkLab(mesh, lab, input.lab?.file ?? '', faults);
  if (faults.length > 0) return { ok: false, faults };
  return { ok: true, snapshot: build(mesh, lab, annotations as AnnotationsDocument[]) };
}

function checkMesh(mesh: MeshDocument, file: string, faults: string[]): void {
  const twice = (kind: string, names: string[]): void => {
    const first = new Map<string, number>();
    for (const [index, entry] of names.entries()) {
      const before = first.get(entry);
      if (before === undefined) first.set(entry, index);
      else faults.push(`${file}: ${kind}[${index}]: "${entry}" is there already, as ${kind}[${before}]`);
    }
  };
  twice('nodes', mesh.nodes);
  twice(
    'pods',
    mesh.pods.map((pod) => `${pod.namespace}/${pod.name}`),
  );
  twice(
    'services',
    mesh.services.map((service) => `${service.namespace}/${service.name}`),
  );
  for (const [index, pod] of mesh.pods.entries()) {
    const at = `${file}: pods[${index}]`;
    if (!mesh.nodes.includes(pod.node)) faults.push(`${at}.node: "${pod.node}" is no node (nodes: ${mesh.nodes.join(', ')})`);
    if (!Object.hasOwn(mesh.namespaces, pod.namespace)) faults.push(`${at}.namespace: "${pod.namespace}" is not under namespaces`);
    if (Object.hasOwn(pod.annotations, REDIRECTION))
      faults.push(`${at}.annotations: "${REDIRECTION}" is state written by the agent, remove it`);
  }
  for (const [index, service] of mesh.services.entries()) {
    if (!Object.hasOwn(mesh.namespaces, service.namespace)) {
      faults.push(`${file}: services[${index}].namespace: "${service.namespace}" is not under namespaces`);
    }
  }
}

/** Entries of pods that the YAML no longer has are left alone: the two files are edited one after the other. */
function checkLab(mesh: MeshDocument, lab: LabDocument, file: string, faults: string[]): void {
  const hostNetwork = new Set(mesh.pods.filter((pod) => pod.hostNetwork).map((pod) => `${pod.namespace}/${pod.name}`));
  const owners = new Map<string, string>();
  const claim = (value: string, path: string): void => {
    const owner = owners.get(value);
    if (owner === undefined) owners.set(value, path);
    else faults.push(`${file}: ${path}: ${value} belongs to ${owner} already`);
  };
  for (const [key, pod] of Object.entries(lab.pods)) {
    claim(`uid "${pod.uid}"`, `pods["${key}"].uid`);
    if (hostNetwork.has(key)) continue; // these share their node's addresses
    for (const ip of pod.ips) claim(`address ${ip}`, `pods["${key}"].ips`);
  }
  for (const [key, service] of Object.entries(lab.services))
    for (const vip of service.vips) claim(`address ${vip}`, `services["${key}"].vips`);
}

function build(mesh: MeshDocument, lab: LabDocument, annotations: AnnotationsDocument[]): MeshSnapshot {
  const pods = new Map<string, PodRecord>();
  for (const pod of mesh.pods) {
    const given = lab.pods[`${pod.namespace}/${pod.name}`];
    if (given === undefined) continue; // no uid yet: nothing can be said about it
    const written = annotations.reduce<Record<string, string>>((all, document) => ({ ...all, ...document[given.uid] }), {});
    pods.set(given.uid, {
      uid: given.uid,
      namespace: pod.namespace,
      name: pod.name,
      node: pod.node,
      serviceAccount: pod.serviceAccount,
      labels: pod.labels,
      annotations: { ...pod.annotations, ...written },
      ips: given.ips,
      ...(given.netns === undefined ? {} : { netns: given.netns }),
      hostNetwork: pod.hostNetwork,
      phase: given.phase,
    });
  }
  const services = new Map<string, ServiceRecord>();
  for (const service of mesh.services) {
    const key = `${service.namespace}/${service.name}`;
    services.set(key, {
      namespace: service.namespace,
      name: service.name,
      hostname: `${service.name}.${service.namespace}.svc.cluster.local`,
      selector: service.selector,
      vips: service.headless ? [] : (lab.services[key]?.vips ?? []),
      ports: service.ports,
    });
  }
  const namespaces = new Map(Object.entries(mesh.namespaces).map(([name, namespace]) => [name, { name, ...namespace }]));
  return { trustDomain: mesh.trustDomain, namespaces, pods, services };
}
