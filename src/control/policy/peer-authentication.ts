/**
 * PeerAuthentication, read: who must come with mTLS. Tunnels always offer mTLS, so DISABLE counts as PERMISSIVE. One that cannot be
 * read counts as STRICT without exceptions.
 */
import type { PolicyObject } from '../cluster.ts';
import { isAbsent, Reading, under } from './reading.ts';
import { ACCEPTED, refusal, type Verdict } from './report.ts';
import { readSelector, type Selector } from './selector.ts';
import { port } from './values.ts';

type Mode = 'UNSET' | 'PERMISSIVE' | 'STRICT';

export interface PeerAuthentication {
  /** "namespace/name" */
  key: string;
  namespace: string;
  name: string;
  /** ms since epoch */
  created: number;
  mode: Mode;
  /** undefined: of the whole namespace, or of the mesh when in the root namespace */
  selector: Selector | undefined;
  /** ascending */
  strictPorts: readonly number[];
  /** ascending: plain text may come here whatever the mode */
  openPorts: readonly number[];
}

interface ReadPeerAuthentication {
  /** undefined: it has no effect */
  peer: PeerAuthentication | undefined;
  verdict: Verdict;
}

const MODES = new Map<unknown, Mode>([
  ['UNSET', 'UNSET'],
  ['PERMISSIVE', 'PERMISSIVE'],
  ['DISABLE', 'PERMISSIVE'],
  ['STRICT', 'STRICT'],
]);

export function readPeerAuthentication(policy: PolicyObject, rootNamespace: string): ReadPeerAuthentication {
  const { namespace, name, created } = policy;
  const reading = new Reading();
  const disabled: string[] = [];
  const spec = reading.object(policy.spec ?? {}, '', ['selector', 'mtls', 'portLevelMtls']) ?? {};
  const selector = readSelector(reading, spec['selector']);
  const own = { key: `${namespace}/${name}`, namespace, name, created, selector };
  if (selector !== undefined && namespace === rootNamespace) {
    const faults = ['selector: is not for the root namespace, whose PeerAuthentication is of the whole mesh', ...reading.faults];
    return { peer: undefined, verdict: refusal('UnsupportedValue', { faults, effect: 'nothing of it', sent: false }) };
  }
  const mode = readMode(reading, spec['mtls'], { path: 'mtls', disabled });
  const ports = readPorts(reading, spec['portLevelMtls'], { selector, disabled });
  if (reading.faults.length > 0) {
    const faults = [...reading.faults, ...disabled];
    const verdict = refusal('Invalid', { faults, effect: 'STRICT on all ports, wherever it is the policy that counts', sent: true });
    return { peer: { ...own, mode: 'STRICT', strictPorts: [], openPorts: [] }, verdict };
  }
  const peer = {
    ...own,
    mode,
    strictPorts: ports.filter(is('STRICT')).map(numberOf),
    openPorts: ports.filter(is('PERMISSIVE')).map(numberOf),
  };
  const effect = 'PERMISSIVE in its place';
  return { peer, verdict: disabled.length === 0 ? ACCEPTED : refusal('UnsupportedValue', { faults: disabled, effect, sent: true }) };
}

interface PortMode {
  port: number;
  mode: Mode;
}

const is =
  (mode: Mode) =>
  (each: PortMode): boolean =>
    each.mode === mode;
const numberOf = (each: PortMode): number => each.port;

function readMode(reading: Reading, value: unknown, { path, disabled }: { path: string; disabled: string[] }): Mode {
  if (isAbsent(value)) return 'UNSET';
  const fields = reading.object(value, path, ['mode']);
  const text = fields?.['mode'];
  if (fields === undefined || isAbsent(text)) return 'UNSET';
  const mode = MODES.get(text);
  if (mode === undefined) reading.fault(under(path, 'mode'), `must be one of ${[...MODES.keys()].join(', ')}`, text);
  if (text === 'DISABLE') disabled.push(`${under(path, 'mode')}: DISABLE: tunnels always offer mTLS`);
  return mode ?? 'STRICT';
}

function readPorts(
  reading: Reading,
  value: unknown,
  { selector, disabled }: { selector: Selector | undefined; disabled: string[] },
): PortMode[] {
  if (isAbsent(value)) return [];
  const path = 'portLevelMtls';
  const entries = Object.entries(reading.map(value, path) ?? {});
  if (entries.length === 0) reading.fault(path, 'must not be empty', value);
  if (selector === undefined) reading.fault(path, 'goes with a selector only');
  const ports: PortMode[] = [];
  for (const [text, mtls] of entries) {
    const number = port(text);
    const at = under(path, text);
    if (number === undefined) reading.fault(at, 'must be a port from 1 to 65535');
    if (isAbsent(mtls)) reading.fault(at, 'must be an object', null);
    const mode = readMode(reading, mtls, { path: at, disabled });
    if (number !== undefined) ports.push({ port: number, mode });
  }
  return ports.sort((a, b) => a.port - b.port);
}
