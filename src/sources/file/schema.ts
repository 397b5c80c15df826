/**
 * The documents of the file source. Truth edited by people is one YAML file; beside it a directory `<file>.d/` holds JSON files
 * with one writer each: lab.json (what the lab gave each pod) and annotations-<node>.json (what that node's agent wrote).
 */
import { z } from 'zod';
import { canonicalIp } from '../../state/address.ts';

const texts = z.record(z.string(), z.string());
/** A name as DNS label: it becomes a file, a device and a host name. */
const name = z.string().regex(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/, 'must be a DNS label: lower case letters, digits and "-"');
const port = z.int().min(1).max(65535);
/** In one spelling, so that two pods with one address are seen however it is written. */
const ip = z.string().transform((text, context) => {
  const canonical = canonicalIp(text);
  if (canonical !== undefined) return canonical;
  context.addIssue({ code: 'custom', message: 'must be an IPv4 or IPv6 address' });
  return z.NEVER;
});

export const podSchema = z.strictObject({
  name,
  namespace: name,
  node: name,
  serviceAccount: name.default('default'),
  labels: texts.default({}),
  annotations: texts.default({}),
  /** what the lab runs in it; nothing else reads it */
  command: z.array(z.string()).min(1).optional(),
  hostNetwork: z.boolean().default(false),
});

export const serviceSchema = z.strictObject({
  name,
  namespace: name,
  selector: texts,
  /** as in Kubernetes, the target is the same port unless named */
  ports: z
    .array(
      z
        .strictObject({ port, targetPort: port.optional() })
        .transform((each) => ({ port: each.port, targetPort: each.targetPort ?? each.port })),
    )
    .default([]),
  headless: z.boolean().default(false),
});

export const meshSchema = z.strictObject({
  nodes: z.array(name).min(1),
  trustDomain: z.string().min(1).default('cluster.local'),
  namespaces: z.record(name, z.strictObject({ labels: texts.default({}), annotations: texts.default({}) })),
  pods: z.array(podSchema).default([]),
  services: z.array(serviceSchema).default([]),
  policies: z.array(z.unknown()).max(0, 'policy is not enforced by this version and must not be ignored silently: remove it').default([]),
});
export type MeshDocument = z.infer<typeof meshSchema>;

/** Keys are "namespace/name". */
export const labSchema = z.strictObject({
  pods: z
    .record(
      z.string(),
      z.strictObject({
        uid: z.string().min(1).max(128),
        ips: z.array(ip).default([]),
        netns: z.string().startsWith('/').optional(),
        phase: z.enum(['Pending', 'Running', 'Succeeded', 'Failed']).default('Running'),
      }),
    )
    .default({}),
  services: z.record(z.string(), z.strictObject({ vips: z.array(ip).default([]) })).default({}),
});
export type LabDocument = z.infer<typeof labSchema>;

/** Annotations by pod uid. */
export const annotationsSchema = z.record(z.string(), texts);
export type AnnotationsDocument = z.infer<typeof annotationsSchema>;
