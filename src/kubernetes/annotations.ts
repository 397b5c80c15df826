/** The annotations that a mesh reads. Others are many and may be large ("last-applied-configuration"), and would be kept for nothing. */
const MESH = /^([a-z0-9.-]+\.)?(istio\.io|culvert\.dev)\//;

export function isMeshAnnotation(name: string): boolean {
  return MESH.test(name);
}

export function meshAnnotations(annotations: Record<string, string>): Record<string, string> {
  const kept = Object.entries(annotations).filter(([name]) => isMeshAnnotation(name));
  return kept.length === 0 ? NONE : Object.fromEntries(kept);
}

const NONE: Record<string, string> = Object.freeze({});
