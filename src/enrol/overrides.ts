/** What a pod's annotations change about its redirect; read when it is enrolled or adopted, as Istio does, not while it runs. */
import type { PodFlags } from '../redirect/driver.ts';

export const DNS_ANNOTATION = 'ambient.istio.io/dns-capture';
export const INGRESS_ANNOTATION = 'ambient.istio.io/bypass-inbound-capture';

/** Istio's, for pods with virtual machines or containers of their own; a redirect at the socket does not see their connections. */
const REROUTE_ANNOTATION = 'istio.io/reroute-virtual-interfaces';
export const OVERRIDES = [DNS_ANNOTATION, INGRESS_ANNOTATION, REROUTE_ANNOTATION] as const;

export interface Overrides {
  flags: PodFlags;
  /** by annotation: a sentence why it is ignored */
  warnings: Map<string, string>;
}

/** @param defaults.dns whether DNS is captured where the pod says nothing */
export function podFlags(annotations: Record<string, string>, defaults: { readonly dns: boolean }): Overrides {
  const warnings = new Map<string, string>();
  const text = (key: string): string | undefined => (Object.hasOwn(annotations, key) ? annotations[key] : undefined);
  const read = (key: string, otherwise: boolean): boolean => {
    const given = text(key);
    if (given === undefined) return otherwise;
    const value = parseBool(given);
    if (value === undefined) warnings.set(key, `annotation ${key}="${given}" is not a boolean and is ignored`);
    return value ?? otherwise;
  };
  const interfaces = text(REROUTE_ANNOTATION);
  if (interfaces !== undefined && interfaces.trim() !== '')
    warnings.set(
      REROUTE_ANNOTATION,
      `annotation ${REROUTE_ANNOTATION}="${interfaces}" is not supported and is ignored: what comes in on these interfaces is not captured`,
    );
  return {
    flags: { dns: read(DNS_ANNOTATION, defaults.dns), ingressMode: read(INGRESS_ANNOTATION, false), markOnly: false },
    warnings,
  };
}

/** The spellings of Go's strconv.ParseBool, which reads these annotations in Istio; undefined for any other. */
export function parseBool(text: string): boolean | undefined {
  if (['1', 't', 'T', 'TRUE', 'true', 'True'].includes(text)) return true;
  if (['0', 'f', 'F', 'FALSE', 'false', 'False'].includes(text)) return false;
  return undefined;
}
