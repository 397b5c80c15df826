/**
 * The root as a Kubernetes Secret: what its keys and annotations mean, and each step of a rotation as a change of the object. The
 * whole state lies in it, so any replica, or one started later, goes on where the last one stopped.
 */
import { X509Certificate } from 'node:crypto';
import { readCertificates, pemOf } from '../../identity/pem.ts';
import type { Root } from '../../identity/root.ts';
import type { KubeObject } from '../../kubernetes/api.ts';
import { CA_CERT, CA_KEY, CERT_CHAIN, readMaterial, ROOT_CERT, type CaFiles, type CaMaterial } from './material.ts';
import type { RotationState } from './rotation.ts';

/** Ours: made, and rotated, by control. */
export const ROOT_SECRET = 'culvert-ca-secret';
/** The operator's, under the name and keys that Istio knows; when it is there it wins, and control changes nothing in it. */
export const OPERATOR_SECRET = 'cacerts';

/** The root to come, trusted already. */
export const NEXT_CERT = 'next-ca-cert.pem';
export const NEXT_KEY = 'next-ca-key.pem';
/** The root that signed before, trusted still. */
export const PREVIOUS_ROOT = 'previous-root.pem';

/** Set by the operator to any new value: rotate now. */
export const ROTATE_ANNOTATION = 'culvert.dev/rotate-root';
/** The value of ROTATE_ANNOTATION that the last rotation was begun with. */
export const ROTATED_ANNOTATION = 'culvert.dev/rotated-root';
/** When the phase of the rotation began, ISO 8601. */
export const SINCE_ANNOTATION = 'culvert.dev/root-rotation-since';
/** Longest life of a certificate that any replica handed out, seconds; only written when it is longer than the overlap. */
const LONGEST_ANNOTATION = 'culvert.dev/longest-certificate-seconds';

export function secretPath(namespace: string, name = ''): string {
  return `/api/v1/namespaces/${namespace}/secrets${name === '' ? '' : `/${name}`}`;
}

export function filesOf(secret: KubeObject): Record<string, string> {
  const data = (secret['data'] ?? {}) as Record<string, unknown>;
  return Object.fromEntries(
    Object.entries(data).flatMap(([key, value]) =>
      typeof value === 'string' ? [[key, Buffer.from(value, 'base64').toString('utf8')]] : [],
    ),
  );
}

export function newRootSecret(namespace: string, root: Root): KubeObject {
  const secret: KubeObject = {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: ROOT_SECRET, namespace, labels: { 'app.kubernetes.io/managed-by': 'culvert' } },
    type: 'istio.io/ca-root',
  };
  return withFiles(secret, { [CA_CERT]: root.certificate, [CA_KEY]: root.key, [CERT_CHAIN]: '', [ROOT_CERT]: root.certificate });
}

/** @throws CERTIFICATE naming the secret, every bad key, and why */
export async function readCaSecret(secret: KubeObject, now = Date.now()): Promise<CaMaterial> {
  const where = `secret ${secret.metadata.namespace ?? ''}/${secret.metadata.name}`;
  const files = filesOf(secret);
  const material = await readMaterial(where, files, now);
  if (phaseOf(files) === 'introduced')
    await readMaterial(
      `${where}, the root to come (${NEXT_CERT}, ${NEXT_KEY})`,
      { [CA_CERT]: files[NEXT_CERT], [CA_KEY]: files[NEXT_KEY] },
      now,
    );
  return material;
}

/** Of a secret whose CA_CERT can be read. */
export function rotationOf(secret: KubeObject): RotationState {
  const files = filesOf(secret);
  const annotations = secret.metadata.annotations ?? {};
  const since = Date.parse(annotations[SINCE_ANNOTATION] ?? '');
  const signing = new X509Certificate(files[CA_CERT] ?? '');
  return {
    phase: phaseOf(files),
    signing: { notBefore: signing.validFromDate.getTime(), notAfter: signing.validToDate.getTime() },
    since: Number.isNaN(since) ? undefined : since,
    longestMs: longestOf(secret),
    asked: annotations[ROTATE_ANNOTATION],
    done: annotations[ROTATED_ANNOTATION],
  };
}

/** ms */
export function longestOf(secret: KubeObject): number {
  const seconds = Number(secret.metadata.annotations?.[LONGEST_ANNOTATION]);
  return Number.isFinite(seconds) ? seconds * 1000 : 0;
}

function phaseOf(files: CaFiles): RotationState['phase'] {
  if (files[NEXT_CERT] !== undefined || files[NEXT_KEY] !== undefined) return 'introduced';
  return files[PREVIOUS_ROOT] === undefined ? 'steady' : 'switched';
}

/** Another root is trusted from now on. */
export function introduce(secret: KubeObject, next: Root, now: number): KubeObject {
  const files = filesOf(secret);
  const asked = secret.metadata.annotations?.[ROTATE_ANNOTATION];
  const trusted = bundle(files[ROOT_CERT] ?? '', files[CA_CERT] ?? '', next.certificate);
  return annotated(withFiles(secret, { [NEXT_CERT]: next.certificate, [NEXT_KEY]: next.key, [ROOT_CERT]: trusted }), {
    [SINCE_ANNOTATION]: new Date(now).toISOString(),
    ...(asked === undefined ? {} : { [ROTATED_ANNOTATION]: asked }),
  });
}

/** The next root signs from now on. */
export function switchRoot(secret: KubeObject, now: number): KubeObject {
  const files = filesOf(secret);
  const changed = withFiles(secret, {
    [PREVIOUS_ROOT]: files[CA_CERT],
    [CA_CERT]: files[NEXT_CERT],
    [CA_KEY]: files[NEXT_KEY],
    [CERT_CHAIN]: '',
    [ROOT_CERT]: bundle(files[NEXT_CERT] ?? '', files[ROOT_CERT] ?? ''),
    [NEXT_CERT]: undefined,
    [NEXT_KEY]: undefined,
  });
  return annotated(changed, { [SINCE_ANNOTATION]: new Date(now).toISOString() });
}

/** The root that signed before is trusted no more; others that an operator put beside it are. */
export function dropPrevious(secret: KubeObject): KubeObject {
  const files = filesOf(secret);
  const previous = new Set(certificatesOf(files[PREVIOUS_ROOT] ?? ''));
  const kept = certificatesOf(files[ROOT_CERT] ?? '').filter((pem) => !previous.has(pem));
  return annotated(withFiles(secret, { [PREVIOUS_ROOT]: undefined, [ROOT_CERT]: kept.join('') }), { [SINCE_ANNOTATION]: undefined });
}

/** The phase begins now. */
export function datePhase(secret: KubeObject, now: number): KubeObject {
  return annotated(secret, { [SINCE_ANNOTATION]: new Date(now).toISOString() });
}

/** Certificates of this life are being handed out. */
export function noteLongest(secret: KubeObject, lifetimeMs: number): KubeObject {
  return annotated(secret, { [LONGEST_ANNOTATION]: String(Math.ceil(lifetimeMs / 1000)) });
}

function bundle(...texts: string[]): string {
  return [...new Set(texts.flatMap(certificatesOf))].join('');
}

function certificatesOf(text: string): string[] {
  return text.trim() === '' ? [] : readCertificates(text).map(pemOf);
}

function withFiles(secret: KubeObject, files: CaFiles): KubeObject {
  const data: Record<string, unknown> = { ...((secret['data'] ?? {}) as Record<string, unknown>) };
  for (const [key, text] of Object.entries(files)) data[key] = text === undefined ? undefined : Buffer.from(text).toString('base64');
  return { ...secret, data: defined(data) };
}

function annotated(secret: KubeObject, values: Record<string, string | undefined>): KubeObject {
  return { ...secret, metadata: { ...secret.metadata, annotations: defined({ ...secret.metadata.annotations, ...values }) } };
}

function defined<T>(record: Record<string, T | undefined>): Record<string, T> {
  return Object.fromEntries(Object.entries(record).filter((entry): entry is [string, T] => entry[1] !== undefined));
}
