/**
 * The documents of a mesh directory made into one MeshSnapshot. Pure: text in, snapshot or faults out. Every fault names file,
 * path and value, and all are reported at once: who edits a file by hand should not learn of them one by one.
 */
import { parseDocument } from 'yaml';
import type { z } from 'zod';
import type { MeshSnapshot, PodRecord, ServiceRecord } from '../source.ts';
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

export function mergeMesh(input: MeshText): Merged {
  const faults: string[] = [];
  const mesh = read(input.mesh, meshSchema, faults);
  const lab = input.lab === undefined ? labSchema.parse({}) : read(input.lab, labSchema, faults);
  const annotations = input.annotations.map((file) => read(file, annotationsSchema, faults));
  if (mesh === undefined || lab === undefined || annotations.includes(undefined)) return { ok: false, faults };

  checkMesh(mesh, input.mesh.file, faults);
  checkLab(mesh, lab, input.lab?.file ?? '', faults);
  if (faults.length > 0) return { ok: false, faults };
  return { ok: true, snapshot: build(mesh, lab, annotations as AnnotationsDocument[]) };
}

/** YAML is a superset of JSON: one reader, and syntax errors with line and column, for both. */
function read<S extends z.ZodType>(source: { file: string; text: string }, schema: S, faults: string[]): z.infer<S> | undefined {
  const document = parseDocument(source.text, { prettyErrors: true });
  if (document.errors.length > 0) {
    for (const error of document.errors) faults.push(`${source.file}: ${error.message.split('\n')[0]?.replace(/:$/, '') ?? 'not YAML'}`);
    return undefined;
  }
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 100 }); // an alias bomb is refused, not expanded
  } catch (error) {
    faults.push(`${source.file}: ${(error as Error).message}`);
    return undefined;
  }
  const result = schema.safeParse(value ?? {});
  if (result.success) return result.data;
  for (const issue of result.error.issues) {
    const at = pathText(issue.path);
    const got = valueAt(value, issue.path);
    faults.push(`${source.file}: ${at === '' ? '' : `${at}: `}${issue.message}${got === undefined ? '' : `, found ${got}`}`);
  }
  return undefined;
}

function checkMesh(mesh: MeshDocument, file: string, faults: string[]): void {
  const twice = (kind: string, names: string[]): void => {
    for (const [index, entry] of names.entries()) {
      const first = names.indexOf(entry);
      if (first !== index) faults.push(`${file}: ${kind}[${String(index)}]: "${entry}" is there already, as ${kind}[${String(first)}]`);
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
    const at = `${file}: pods[${String(index)}]`;
    if (!mesh.nodes.includes(pod.node)) faults.push(`${at}.node: "${pod.node}" is no node (nodes: ${mesh.nodes.join(', ')})`);
    if (!Object.hasOwn(mesh.namespaces, pod.namespace)) faults.push(`${at}.namespace: "${pod.namespace}" is not under namespaces`);
    if (Object.hasOwn(pod.annotations, REDIRECTION))
      faults.push(`${at}.annotations: "${REDIRECTION}" is state written by the agent, remove it`);
  }
  for (const [index, service] of mesh.services.entries()) {
    if (!Object.hasOwn(mesh.namespaces, service.namespace)) {
      faults.push(`${file}: services[${String(index)}].namespace: "${service.namespace}" is not under namespaces`);
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

function pathText(path: PropertyKey[]): string {
  return path.map((part, index) => (typeof part === 'number' ? `[${String(part)}]` : `${index === 0 ? '' : '.'}${String(part)}`)).join('');
}

function valueAt(value: unknown, path: PropertyKey[]): string | undefined {
  let at = value;
  for (const part of path) {
    if (typeof at !== 'object' || at === null) return undefined;
    at = (at as Record<PropertyKey, unknown>)[part];
  }
  if (at === undefined) return undefined;
  const text = JSON.stringify(at);
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}
