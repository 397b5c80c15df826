/**
 * `culvert verify`: a real connection out of the pod, and one into it from a throw-away namespace. Proven are both halves: the
 * datapath's event of that very tuple says redirected, and the connection was established, so a tunnel accepted it. Whether the
 * tunnel then reaches anything does not matter: a denial by policy is the mesh at work.
 */
import { closeSync, openSync } from 'node:fs';
import type { DiagSocket, Native } from '../sys/native.ts';
import { wire } from '../maps/layout.ts';
import { describe, systemCause } from '../base/errors.ts';
import { Slots } from '../base/slots.ts';
import type { Entry } from '../enrol/registry.ts';
import { reason, summary } from '../enrol/registry.ts';
import type { DatapathEvent, RedirectDriver } from '../redirect/driver.ts';
import { familyOf, formatAddress } from '../state/address.ts';
import type { VerifyResult } from './api.ts';
import { openProbeNetns, type ProbeNetns } from './probe-netns.ts';

export interface VerifyOptions {
  node: string;
  nodeNetns: string;
  driver: Pick<RedirectDriver, 'onEvent' | 'name' | 'servedBy'>;
  native: Pick<Native, 'netnsConnect' | 'netnsRun' | 'socketNames' | 'socketReset'>;
  /** addresses of pods anywhere in the mesh, as destinations */
  knownIps: () => string[];
}

/** netns of a pod whose driver reports no events; undefined: it does */
type Witness = number | undefined;

/** where rules of netfilter send what they capture */
const TUNNEL_ACCEPTS: readonly number[] = [wire.PORT_OUTBOUND, wire.PORT_INBOUND];

interface Verdict {
  ok: boolean;
  detail: string;
}

const TIMEOUT_MS = 3000;
/** The event of an established connection is on its way already. */
const EVENT_MS = 500;
/** discard: captured like any port, and what the tunnel then finds there disturbs nobody */
const PORT = 9;
/** Documentation addresses: never anybody's, for a mesh of one pod. */
const NOBODY = { 4: '192.0.2.1', 6: '2001:db8::1' } as const;
const AT_ONCE = 4;

export async function verifyPods(entries: Entry[], o: VerifyOptions): Promise<VerifyResult[]> {
  const slots = new Slots(AT_ONCE);
  let probe: ProbeNetns | string;
  try {
    probe = await openProbeNetns(o.nodeNetns);
  } catch (error) {
    probe = describe(error);
  }
  try {
    return await Promise.all(entries.map((entry) => slots.run(() => verifyPod(entry, probe, o))));
  } finally {
    if (typeof probe !== 'string') await probe.close();
  }
}

async function verifyPod(entry: Entry, probe: ProbeNetns | string, o: VerifyOptions): Promise<VerifyResult> {
  const { namespace, name, netns, flags } = entry.pod.subject;
  const result = (outbound: Verdict, inbound: Verdict): VerifyResult => ({
    node: o.node,
    pod: `${namespace}/${name}`,
    ok: outbound.ok && inbound.ok,
    outbound,
    inbound,
  });
  if (summary(entry) !== 'enrolled' || netns === undefined) {
    const detail = { ok: false, detail: `${summary(entry)}: ${reason(entry)}` };
    return result(detail, detail);
  }
  const ips = entry.record?.ips ?? [];
  const served = (entry.pod.subject.cookie === undefined ? undefined : o.driver.servedBy?.(entry.pod.subject.cookie)) ?? o.driver.name;
  const witness = served === 'ebpf' ? undefined : netns.fd;
  const [outbound, inbound] = await Promise.all([
    all(ips, (ip) => tryOut(netns.fd, ip, ips, witness, o)),
    all(ips, (ip) => {
      if (flags.ingressMode) return Promise.resolve({ ok: true, detail: `${ip}: not captured, as its annotation asks` });
      return typeof probe === 'string' ? Promise.resolve({ ok: false, detail: probe }) : tryIn(probe, ip, witness, o);
    }),
  ]);
  return result(outbound, inbound);
}

/** One try per address of the pod, v4 and v6. */
async function all(ips: string[], attempt: (ip: string) => Promise<Verdict>): Promise<Verdict> {
  if (ips.length === 0) return { ok: false, detail: 'the source knows no address of it' };
  const verdicts = await Promise.all(ips.map(attempt));
  return { ok: verdicts.every((verdict) => verdict.ok), detail: verdicts.map((verdict) => verdict.detail).join('; ') };
}

function tryOut(netnsFd: number, ip: string, own: string[], witness: Witness, o: VerifyOptions): Promise<Verdict> {
  const family = familyOf(ip);
  const target = o.knownIps().find((known) => familyOf(known) === family && !own.includes(known)) ?? NOBODY[family];
  return attempt(netnsFd, target, 'outbound', ['accepted'], witness, o);
}

async function tryIn(probe: ProbeNetns, ip: string, witness: Witness, o: VerifyOptions): Promise<Verdict> {
  const verdict = await attempt(probe.fd, ip, 'inbound', ['tunnel', 'hbone'], witness, o);
  if (verdict.ok || forwards(ip, o)) return verdict;
  return { ok: false, detail: `${verdict.detail}; this node does not forward, so this says nothing of the pod` };
}

/** The throw-away namespace reaches a pod as other pods do: through the node. */
function forwards(ip: string, o: VerifyOptions): boolean {
  const fd = openSync(o.nodeNetns, 'r');
  try {
    const path = familyOf(ip) === 4 ? 'net/ipv4/ip_forward' : 'net/ipv6/conf/all/forwarding';
    const [result] = o.native.netnsRun(fd, [{ op: 'sysctl-read', path }]);
    return result?.ok !== true || String(result.value).trim() !== '0';
  } finally {
    closeSync(fd);
  }
}

async function attempt(
  netnsFd: number,
  ip: string,
  direction: DatapathEvent['direction'],
  proofs: string[],
  witness: Witness,
  o: VerifyOptions,
): Promise<Verdict> {
  const dst = formatAddress({ ip, port: PORT });
  const seen: DatapathEvent[] = [];
  const events = o.driver.onEvent((event) => {
    if (event.direction === direction && event.dst === dst) seen.push(event);
  });
  let fd: number | undefined;
  try {
    fd = await o.native.netnsConnect(netnsFd, {
      family: familyOf(ip),
      type: 'tcp',
      destination: { address: ip, port: PORT },
      timeoutMs: TIMEOUT_MS,
    });
    const { local } = o.native.socketNames(fd);
    const src = formatAddress({ ip: local.address, port: local.port });
    if (witness !== undefined) return judgeBySockets(witness, local, src, dst, o);
    return await judge(seen, src, dst, proofs);
  } catch (error) {
    const code = systemCause(error).systemCode;
    // accepted, and closed by the tunnel before it was ours: what lies behind it refused
    const local = code === 'ECONNRESET' ? localEnd(error) : undefined;
    if (local !== undefined) return await judge(seen, local, dst, proofs);
    const what = code === 'ECONNREFUSED' ? 'refused' : code === 'ETIMEDOUT' ? `no answer within ${TIMEOUT_MS / 1000} s` : describe(error);
    const last = seen.at(-1);
    return { ok: false, detail: `to ${dst}: ${what}${last === undefined ? '' : ` (${last.verdict}: ${last.reason})`}` };
  } finally {
    events.close();
    if (fd !== undefined) o.native.socketReset(fd);
  }
}

/**
 * Rules tell nobody what they redirect. What was accepted does: a socket in the pod's netns whose other end is ours, on a port of the
 * tunnel, which is where its rules send a connection that was dialled to another.
 */
function judgeBySockets(netnsFd: number, local: { address: string; port: number }, src: string, dst: string, o: VerifyOptions): Verdict {
  const [result] = o.native.netnsRun(netnsFd, [{ op: 'sockets', mark: 0, mask: 0 }]);
  const sockets = result?.ok === true ? (result.value as DiagSocket[]) : [];
  const plain = (address: string): string => address.replace(/^::ffff:(?=.*\.)/, '');
  const peer = sockets.find((socket) => socket.dport === local.port && plain(socket.dst) === plain(local.address));
  if (peer !== undefined && TUNNEL_ACCEPTS.includes(peer.sport))
    return { ok: true, detail: `${src} to ${dst}: redirected, accepted by the tunnel on ${peer.sport}` };
  const who = peer === undefined ? 'nobody in the pod' : `port ${peer.sport}`;
  return { ok: false, detail: `${src} to ${dst}: connected, but accepted by ${who}, not by the tunnel` };
}

/** Our end of a connect that failed after its SYN; see `netnsConnect`. */
function localEnd(error: unknown): string | undefined {
  const local = (error as { local?: { address: string; port: number } }).local;
  return local === undefined ? undefined : formatAddress({ ip: local.address, port: local.port });
}

/** Established; now the event of this tuple, which tells a captured connection from one that simply got through. */
async function judge(seen: DatapathEvent[], src: string, dst: string, proofs: string[]): Promise<Verdict> {
  const end = performance.now() + EVENT_MS;
  for (;;) {
    const mine = seen.filter((event) => event.src === src);
    const proof = mine.find((event) => event.verdict === 'redirected' && proofs.includes(event.reason));
    if (proof !== undefined) return { ok: true, detail: `${src} to ${dst}: redirected, accepted by the tunnel` };
    const passed = mine.find((event) => event.verdict === 'passed');
    if (passed !== undefined) return { ok: false, detail: `${src} to ${dst}: passed (${passed.reason})` };
    if (performance.now() > end) return { ok: false, detail: `${src} to ${dst}: connected, but nothing was redirected` };
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
