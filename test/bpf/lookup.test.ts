/** The inbound decision of sk_lookup as a table: context in, verdict, chosen listener, reason and event out. By BPF_PROG_TEST_RUN. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import {
  countsOf,
  decodeEvent,
  enums,
  EVENT_CLASS,
  mapsOf,
  podFlag,
  podState,
  REASON,
  type Event,
  type Maps,
  type ReasonName,
} from '../../src/maps/index.ts';
import { loadPodProgram, podTemplate } from '../../src/redirect/ebpf/pod-program.ts';
import { bpfObject, native, type LoadedObject } from '../../src/sys/native.ts';
import { difference } from '../support/bpf-datapath.ts';
import { addresses, contextOf, COOKIE, SPORT, type Addresses } from '../support/bpf-lookup.ts';

const TCP = 6;
const UDP = 17;
const PASS = 1;
const DROP = 0;

/** A listener of this test standing in for one of the tunnel: the map does not ask whose it is. */
interface Listener {
  server: Server;
  fd: number;
}

let loaded: LoadedObject;
let maps: Maps;
let program: number;
const listeners: Listener[] = [];

beforeAll(async () => {
  loaded = native.bpfLoad(bpfObject(), { rodata: {}, reuse: {}, maxEntries: {} });
  maps = mapsOf(loaded);
  program = loadPodProgram(podTemplate(loaded), COOKIE);
  for (let i = 0; i < 5; i++) {
    const server = createServer().listen(0, '::');
    await once(server, 'listening');
    listeners.push({ server, fd: (server as unknown as { _handle: { fd: number } })._handle.fd });
  }
});

afterAll(async () => {
  native.closeFd(program);
  loaded.close();
  for (const { server } of listeners) await new Promise((resolve) => server.close(resolve));
});

beforeEach(() => {
  for (const map of [maps.pods, maps.own, maps.listeners, maps.generation, maps.inner, maps.exempt, maps.counters])
    map.deleteWhere(() => true);
  for (const { own, own2 } of Object.values(addresses)) for (const addr of [own, own2]) maps.own.set({ cookie: COOKIE, addr }, 1);
  state('POD_ACTIVE');
  for (const [i, port] of [15001, 15006, 15008].entries()) register(port, i);
});

function state(name: keyof typeof podState, flags = 0): void {
  maps.pods.set(COOKIE, { state: podState[name], flags });
}

/** The listener's next generation. @returns the socket's cookie, as the map and the kernel's answer have it */
function register(port: number, listener: number): bigint {
  const number = (maps.generation.get({ cookie: COOKIE, port }) ?? 0) + 1;
  maps.listeners.set({ cookie: COOKIE, port, slot: number % 4 }, BigInt(listeners[listener]!.fd));
  maps.generation.set({ cookie: COOKIE, port }, number);
  return socketAt(port);
}

/** Cookie of the newest registered socket of a port. */
function socketAt(port: number): bigint {
  const slot = (maps.generation.get({ cookie: COOKIE, port }) ?? 0) % 4;
  return maps.listeners.get({ cookie: COOKIE, port, slot }) ?? 0n;
}

function forget(port: number): void {
  maps.listeners.deleteWhere((key) => key.port === port);
}

interface Outcome {
  verdict: number;
  socket: bigint;
  reasons: Partial<Record<ReasonName, number>>;
}

function lookup(src: string, dst: string, dport: number, protocol = TCP): Outcome {
  const before = countsOf(maps, COOKIE);
  const { retval, ctxOut } = native.bpfTestRun(program, { ctx: contextOf(src, dst, dport, protocol) });
  const socket = new DataView(ctxOut.buffer, ctxOut.byteOffset).getBigUint64(0, true);
  return { verdict: retval, socket, reasons: difference(before, countsOf(maps, COOKIE)) };
}

const passed = (reason?: ReasonName): Outcome => ({ verdict: PASS, socket: 0n, reasons: reason === undefined ? {} : { [reason]: 1 } });
const dropped = (reason: ReasonName): Outcome => ({ verdict: DROP, socket: 0n, reasons: { [reason]: 1 } });
const assigned = (port: number, reason: ReasonName): Outcome => ({ verdict: PASS, socket: socketAt(port), reasons: { [reason]: 1 } });

const now = (): bigint => process.hrtime.bigint();
const seconds = (n: number): bigint => BigInt(n) * 1_000_000_000n;

/** Rules in their order; each row makes its own state, all rows run for both families. */
const rows: {
  name: string;
  arrange?: (a: Addresses) => void;
  from: keyof Addresses;
  to: keyof Addresses;
  port?: number;
  protocol?: number;
  expected: () => Outcome;
}[] = [
  { name: 'UDP is not looked at', from: 'foreign', to: 'own', protocol: UDP, expected: () => passed() },
  { name: 'from loopback', from: 'loopback', to: 'own', expected: () => passed() },
  { name: 'to loopback', from: 'foreign', to: 'loopback', expected: () => passed() },
  { name: 'to itself', from: 'own', to: 'own', expected: () => passed('IN_PASS_SELF') },
  { name: 'to another own address', from: 'own', to: 'own2', port: 15008, expected: () => passed('IN_PASS_SELF') },
  { name: 'captured', from: 'own', to: 'foreign', expected: () => assigned(15001, 'OUT_REDIRECT_ACCEPTED') },
  { name: 'captured, to port 15008', from: 'own', to: 'foreign', port: 15008, expected: () => assigned(15001, 'OUT_REDIRECT_ACCEPTED') },
  { name: 'captured, to the probe address', from: 'own', to: 'probe', expected: () => assigned(15001, 'OUT_REDIRECT_ACCEPTED') },
  {
    name: 'captured, prepared',
    arrange: () => state('POD_PREPARED'),
    from: 'own',
    to: 'foreign',
    expected: () => assigned(15001, 'OUT_REDIRECT_ACCEPTED'),
  },
  {
    name: 'captured, draining',
    arrange: () => state('POD_DRAINING'),
    from: 'own',
    to: 'foreign',
    expected: () => assigned(15001, 'OUT_REDIRECT_ACCEPTED'),
  },
  { name: 'captured, tunnel gone', arrange: () => forget(15001), from: 'own', to: 'foreign', expected: () => dropped('OUT_DROP_LOOKUP') },
  { name: 'from outside', from: 'foreign', to: 'own', expected: () => assigned(15006, 'IN_REDIRECT_TUNNEL') },
  { name: 'from outside to an unknown address', from: 'foreign', to: 'probe', expected: () => assigned(15006, 'IN_REDIRECT_TUNNEL') },
  ...[15001, 15006, 15053].map((port) => ({
    name: `from outside to the tunnel's port ${port}`,
    from: 'foreign' as const,
    to: 'own' as const,
    port,
    expected: () => assigned(15006, 'IN_REDIRECT_TUNNEL'),
  })),
  {
    name: 'from outside, tunnel gone',
    arrange: () => forget(15006),
    from: 'foreign',
    to: 'own',
    expected: () => dropped('IN_DROP_NO_TUNNEL'),
  },
  { name: 'HBONE', from: 'foreign', to: 'own', port: 15008, expected: () => assigned(15008, 'IN_REDIRECT_HBONE') },
  { name: 'HBONE from the probe address', from: 'probe', to: 'own', port: 15008, expected: () => assigned(15008, 'IN_REDIRECT_HBONE') },
  {
    name: 'HBONE, tunnel gone',
    arrange: () => forget(15008),
    from: 'foreign',
    to: 'own',
    port: 15008,
    expected: () => dropped('IN_DROP_NO_TUNNEL'),
  },
  { name: 'from the probe address', from: 'probe', to: 'own', expected: () => assigned(15006, 'IN_REDIRECT_TUNNEL') },
  { name: 'prepared', arrange: () => state('POD_PREPARED'), from: 'foreign', to: 'own', expected: () => passed('IN_PASS_INACTIVE') },
  { name: 'draining', arrange: () => state('POD_DRAINING'), from: 'foreign', to: 'own', expected: () => passed('IN_PASS_INACTIVE') },
  {
    name: 'HBONE, prepared',
    arrange: () => state('POD_PREPARED'),
    from: 'foreign',
    to: 'own',
    port: 15008,
    expected: () => passed('IN_PASS_INACTIVE'),
  },
  {
    name: 'HBONE, draining',
    arrange: () => state('POD_DRAINING'),
    from: 'foreign',
    to: 'own',
    port: 15008,
    expected: () => assigned(15008, 'IN_PASS_HBONE'),
  },
  {
    name: 'HBONE, draining, tunnel gone',
    arrange: () => {
      state('POD_DRAINING');
      forget(15008);
    },
    from: 'foreign',
    to: 'own',
    port: 15008,
    expected: () => dropped('IN_DROP_NO_TUNNEL'),
  },
  { name: 'no pod', arrange: () => void maps.pods.delete(COOKIE), from: 'foreign', to: 'own', expected: () => passed('IN_PASS_INACTIVE') },
  {
    name: 'ingress mode',
    arrange: () => state('POD_ACTIVE', podFlag.POD_INGRESS_MODE),
    from: 'foreign',
    to: 'own',
    expected: () => passed('IN_PASS_INGRESS'),
  },
  {
    name: 'HBONE in ingress mode',
    arrange: () => state('POD_ACTIVE', podFlag.POD_INGRESS_MODE),
    from: 'foreign',
    to: 'own',
    port: 15008,
    expected: () => assigned(15008, 'IN_REDIRECT_HBONE'),
  },
  {
    name: 'from the tunnel as the client',
    arrange: tuple('inner', 9),
    from: 'foreign',
    to: 'own',
    expected: () => passed('IN_PASS_INNER'),
  },
  {
    name: 'from the tunnel, too long ago',
    arrange: tuple('inner', 11),
    from: 'foreign',
    to: 'own',
    expected: () => assigned(15006, 'IN_REDIRECT_TUNNEL'),
  },
  { name: 'exempt', arrange: tuple('exempt', 179), from: 'foreign', to: 'own', expected: () => passed('IN_PASS_EXEMPT') },
  {
    name: 'exempt, too long ago',
    arrange: tuple('exempt', 181),
    from: 'foreign',
    to: 'own',
    expected: () => assigned(15006, 'IN_REDIRECT_TUNNEL'),
  },
  // That listener's answers stay in the pod: whoever is not of the pod would wait for ever.
  ...(
    [
      ['exempt', tuple('exempt', 1, COOKIE, 15001)],
      ['in ingress mode', () => state('POD_ACTIVE', podFlag.POD_INGRESS_MODE)],
      ['prepared', () => state('POD_PREPARED')],
      ['draining', () => state('POD_DRAINING')],
    ] as const
  ).map(([name, arrange]) => ({
    name: `to the outbound listener's port, ${name}`,
    arrange,
    from: 'foreign' as const,
    to: 'own' as const,
    port: 15001,
    expected: () => assigned(15006, 'IN_REDIRECT_TUNNEL'),
  })),
  {
    name: "another pod's exempt tuple",
    arrange: tuple('exempt', 1, COOKIE + 1n),
    from: 'foreign',
    to: 'own',
    expected: () => assigned(15006, 'IN_REDIRECT_TUNNEL'),
  },
];

function tuple(map: 'inner' | 'exempt', age: number, cookie = COOKIE, dport = 8080): (a: Addresses) => void {
  return (a) => maps[map].set({ cookie, src: a.foreign, dst: a.own, sport: SPORT, dport }, now() - seconds(age));
}

describe.each(Object.keys(addresses) as (keyof typeof addresses)[])('%s', (family) => {
  const a = addresses[family];

  test.each(rows)('$name', ({ arrange, from, to, port = 8080, protocol = TCP, expected }) => {
    arrange?.(a);
    expect(lookup(a[from], a[to], port, protocol)).toEqual(expected());
  });

  test('the newest of four living listeners is chosen, then the next older', () => {
    const sockets = [register(15006, 1), register(15006, 2), register(15006, 3), register(15006, 4)];
    const last = maps.generation.get({ cookie: COOKIE, port: 15006 })!;
    for (const age of [0, 1, 2, 3]) {
      expect(lookup(a.foreign, a.own, 80).socket).toBe(sockets[3 - age]);
      maps.listeners.delete({ cookie: COOKIE, port: 15006, slot: (last - age) % 4 });
    }
    expect(lookup(a.foreign, a.own, 80)).toEqual(dropped('IN_DROP_NO_TUNNEL'));
  });

  test('the generation may wrap around', () => {
    maps.generation.set({ cookie: COOKIE, port: 15006 }, 0xffff_ffff);
    maps.listeners.set({ cookie: COOKIE, port: 15006, slot: 3 }, BigInt(listeners[4]!.fd));
    const { socket } = lookup(a.foreign, a.own, 80);
    expect(socket).toBe(maps.listeners.get({ cookie: COOKIE, port: 15006, slot: 3 }));
  });
});

describe('a listener of one family', () => {
  test('cannot take the other: dropped, counted', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const fd = BigInt((server as unknown as { _handle: { fd: number } })._handle.fd);
    for (const port of [15001, 15006]) {
      forget(port);
      maps.listeners.set({ cookie: COOKIE, port, slot: 1 }, fd);
    }
    const { own, foreign } = addresses.v6;
    expect(lookup(foreign, own, 80)).toEqual(dropped('IN_DROP_ASSIGN'));
    expect(lookup(own, foreign, 80)).toEqual(dropped('OUT_DROP_ASSIGN'));
    await new Promise((resolve) => server.close(resolve));
  });
});

describe('events', () => {
  const events: Event[] = [];
  let ring: { close(): void };
  const { own, foreign } = addresses.v6;

  beforeAll(() => {
    ring = native.bpfRingbuf(maps.events.fd, 10, (records) => events.push(...records.map(decodeEvent)));
  });
  afterAll(() => {
    ring.close();
    maps.settings.set(0, { event_mask: 0, istio_probes: 0 });
  });

  async function eventsOf(mask: number, act: () => unknown): Promise<Event[]> {
    maps.settings.set(0, { event_mask: mask, istio_probes: 0 });
    await new Promise((resolve) => setTimeout(resolve, 60));
    events.length = 0;
    act();
    await new Promise((resolve) => setTimeout(resolve, 60));
    return [...events];
  }

  /** One of each class. */
  function one(): void {
    lookup(own, foreign, 443);
    lookup(own, own, 80);
    forget(15006);
    lookup(foreign, own, 80);
  }

  test.each([
    { name: 'only refusals by default', mask: 0, verdicts: ['dropped'] },
    { name: 'refusals', mask: EVENT_CLASS.EVENT_REFUSED, verdicts: ['dropped'] },
    { name: 'redirected', mask: EVENT_CLASS.EVENT_REDIRECTED, verdicts: ['redirected'] },
    { name: 'all', mask: 7, verdicts: ['redirected', 'passed', 'dropped'] },
  ])('$name', async ({ mask, verdicts }) => {
    expect((await eventsOf(mask, one)).map((e) => e.verdict)).toEqual(verdicts);
  });

  test('carry the whole tuple', async () => {
    const [event] = await eventsOf(7, () => lookup(own, foreign, 443));
    expect(event).toMatchObject({
      cookie: COOKIE,
      direction: 'outbound',
      verdict: 'redirected',
      reason: 'accepted',
      name: 'OUT_REDIRECT_ACCEPTED',
      protocol: TCP,
      src: `[${own}]:${SPORT}`,
      dst: `[${foreign}]:443`,
    });
    expect(Math.abs(Date.parse(event!.time) - Date.now())).toBeLessThan(60_000);
  });

  test('that find no room are counted', () => {
    ring.close();
    maps.settings.set(0, { event_mask: 7, istio_probes: 0 });
    const records = enums.size.SIZE_EVENTS / 72;
    native.bpfTestRun(program, { ctx: contextOf(own, own, 80), repeat: Math.ceil(records) + 10 });
    expect(maps.counters.get({ cookie: COOKIE, reason: REASON.MISC_EVENT_LOST })).toBeGreaterThanOrEqual(10n);
  });
});
