/** What a pod's annotations change about its redirect; read when it is enrolled or adopted, as Istio does, not while it runs. */
import { DRIVER_NAMES, type DriverName, type PodFlags } from '../redirect/driver.ts';

export const DNS_ANNOTATION = 'ambient.istio.io/dns-capture';
export const INGRESS_ANNOTATION = 'ambient.istio.io/bypass-inbound-capture';

/** Istio's, for pods with virtual machines or containers of their own; a redirect at the socket does not see their connections. */
const REROUTE_ANNOTATION = 'istio.io/reroute-virtual-interfaces';
/** Ours: which driver serves this pod. Also obeyed while it runs. */
export const DRIVER_ANNOTATION = 'culvert.dev/redirect-driver';
export const OVERRIDES = [DNS_ANNOTATION, INGRESS_ANNOTATION, REROUTE_ANNOTATION, DRIVER_ANNOTATION] as const;

export interface Overrides {
  flags: PodFlags;
  /** the pod's own choice */
  driver: DriverName | undefined;
  virtualInterfaces: string[];
  /** by annotation: a sentence why it is ignored */
  warnings: Map<string, string>;
}

/** @param defaults.dns whether DNS is captured where the pod says nothing; defaults.driver of the node */
export function podFlags(annotations: Record<string, string>, defaults: { readonly dns: boolean; readonly driver: DriverName }): Overrides {
  const warnings = new Map<string, string>();
  const text = (key: string): string | undefined => (Object.hasOwn(annotations, key) ? annotations[key] : undefined);
  const read = (key: string, otherwise: boolean): boolean => {
    const given = text(key);
    if (given === undefined) return otherwise;
    const value = parseBool(given);
    if (value === undefined) warnings.set(key, `annotation ${key}="${given}" is not a boolean and is ignored`);
    return value ?? otherwise;
  };
  const asked = text(DRIVER_ANNOTATION);
  const driver = DRIVER_NAMES.find((name) => name === asked);
  if (asked !== undefined && driver === undefined)
    warnings.set(DRIVER_ANNOTATION, `annotation ${DRIVER_ANNOTATION}="${asked}" is none of ${DRIVER_NAMES.join(', ')} and is ignored`);
  const interfaces = text(REROUTE_ANNOTATION) ?? '';
  const virtualInterfaces = interfaces
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  if (virtualInterfaces.length > 0 && (driver ?? defaults.driver) === 'ebpf')
    warnings.set(
      REROUTE_ANNOTATION,
      `annotation ${REROUTE_ANNOTATION}="${interfaces}" is not supported by driver ebpf and is ignored: what comes in on these interfaces is not captured; annotation ${DRIVER_ANNOTATION}=nftables or iptables gives the pod a driver that does`,
    );
  return {
    flags: { dns: read(DNS_ANNOTATION, defaults.dns), ingressMode: read(INGRESS_ANNOTATION, false), markOnly: false },
    driver,
    virtualInterfaces,
    warnings,
  };
}

/** The spellings of Go's strconv.ParseBool, which reads these annotations in Istio; undefined for any other. */
export function parseBool(text: string): boolean | undefined {
  if (['1', 't', 'T', 'TRUE', 'true', 'True'].includes(text)) return true;
  if (['0', 'f', 'F', 'FALSE', 'false', 'False'].includes(text)) return false;
  return undefined;
}
