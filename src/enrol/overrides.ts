/** What a pod's annotations change about its redirect; read when it is enrolled or adopted, as Istio does, not while it runs. */
import type { PodFlags } from '../redirect/driver.ts';

export const DNS_ANNOTATION = 'ambient.istio.io/dns-capture';
export const INGRESS_ANNOTATION = 'ambient.istio.io/bypass-inbound-capture';

export interface Overrides {
  flags: PodFlags;
  /** one sentence per annotation that could not be read and is therefore ignored */
  warnings: string[];
}

/** @param defaults.dns whether DNS is captured where the pod says nothing */
export function podFlags(annotations: Record<string, string>, defaults: { dns: boolean }): Overrides {
  const warnings: string[] = [];
  const read = (key: string, otherwise: boolean): boolean => {
    const text = Object.hasOwn(annotations, key) ? annotations[key] : undefined;
    if (text === undefined) return otherwise;
    const value = parseBool(text);
    if (value === undefined) warnings.push(`annotation ${key}="${text}" is not a boolean and is ignored`);
    return value ?? otherwise;
  };
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
