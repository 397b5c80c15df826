/** What passes the tunnel by beside exact tuples: Istio's probe addresses, addresses of the node. And trials. By BPF_PROG_TEST_RUN. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { countsOf, enums, mapsOf, podFlag, podState, wire, type Maps } from '../../src/maps/index.ts';
import { loadPodProgram, podTemplate } from '../../src/redirect/ebpf/pod-program.ts';
import { bpfObject, native, type LoadedObject } from '../../src/sys/native.ts';
import { difference, type Reasons } from '../support/bpf-datapath.ts';
import { addresses, contextOf, COOKIE, SPORT, type Addresses } from '../support/bpf-lookup.ts';

let loaded: LoadedObject;
let maps: Maps;
let program: number;

beforeAll(() => {
  loaded = native.bpfLoad(bpfObject(), { rodata: {}, reuse: {}, maxEntries: {} });
  maps = mapsOf(loaded);
  program = loadPodProgram(podTemplate(loaded), COOKIE);
});
afterAll(() => {
  native.closeFd(program);
  loaded.close();
});
beforeEach(() => {
  for (const map of [maps.exempt, maps.trials, maps.nodeSources]) map.deleteWhere(() => true);
  for (const { own, own2 } of Object.values(addresses)) for (const addr of [own, own2]) maps.own.set({ cookie: COOKIE, addr }, 1);
  probes(0);
  state('POD_ACTIVE');
});

function state(name: keyof typeof podState, flags = 0): void {
  maps.pods.set(COOKIE, { state: podState[name], flags });
}

function probes(families: number): void {
  maps.settings.set(0, { event_mask: 0, istio_probes: families });
}

function nodeSource(addr: string, cookie = COOKIE): void {
  maps.nodeSources.set({ cookie, addr }, 1);
  state('POD_ACTIVE', podFlag.POD_NODE_SOURCE);
}

function trial(addr: string): void {
  maps.trials.set({ cookie: COOKIE, addr }, { src: '::', sport: 0, seen: 0 });
}

function lookup(src: string, dst: string, dport = 8080): { passes: boolean; reasons: Reasons } {
  const before = countsOf(maps, COOKIE);
  const { retval } = native.bpfTestRun(program, { ctx: contextOf(src, dst, dport) });
  return { passes: retval === 1, reasons: difference(before, countsOf(maps, COOKIE)) };
}

/** There is no tunnel here: what would be handed to it is refused. */
const captured = { passes: false, reasons: { IN_DROP_NO_TUNNEL: 1 } };

describe.each(Object.keys(addresses) as (keyof typeof addresses)[])('%s', (family) => {
  const a: Addresses = addresses[family];
  const { ISTIO_PROBES_V4, ISTIO_PROBES_V6 } = enums.istio_probes;
  const [mine, other] = family === 'v4' ? [ISTIO_PROBES_V4, ISTIO_PROBES_V6] : [ISTIO_PROBES_V6, ISTIO_PROBES_V4];

  test("Istio's probe address passes while it is believed, and nobody else by that", () => {
    expect(lookup(a.probe, a.own)).toEqual(captured);
    probes(other);
    expect(lookup(a.probe, a.own)).toEqual(captured);
    probes(mine);
    expect(lookup(a.probe, a.own)).toEqual({ passes: true, reasons: { IN_PASS_PROBE: 1 } });
    expect(lookup(a.foreign, a.own)).toEqual(captured);
    expect(lookup(a.probe, a.own, wire.PORT_HBONE)).toEqual(captured);
  });

  test('an address like it in all words but one is not it', () => {
    probes(mine | other);
    const alike = {
      v4: ['169.254.7.126', '169.254.6.127', '168.254.7.127'],
      v6: [
        'fd16:9255:7127:1337:ffff:ffff:ffff:ffff',
        'fd16:9254:7127:1336:ffff:ffff:ffff:ffff',
        'fd16:9254:7127:1337:ffff:fffe:ffff:ffff',
        'fd16:9254:7127:1337:ffff:ffff:ffff:7fff',
        '::a9fe:77f',
        '::1:ffff:a9fe:77f',
      ],
    };
    for (const address of alike[family]) expect(lookup(address, a.own), address).toEqual(captured);
  });

  test('an address of the node passes where exact tuples do not arrive: that pod, that address, not HBONE', () => {
    maps.nodeSources.set({ cookie: COOKIE, addr: a.foreign }, 1);
    expect(lookup(a.foreign, a.own), 'without the flag').toEqual(captured);
    nodeSource(a.foreign);
    expect(lookup(a.foreign, a.own)).toEqual({ passes: true, reasons: { IN_PASS_NODE: 1 } });
    expect(lookup(a.probe, a.own)).toEqual(captured);
    expect(lookup(a.foreign, a.own, wire.PORT_HBONE)).toEqual(captured);
    maps.nodeSources.deleteWhere(() => true);
    nodeSource(a.foreign, COOKIE + 1n);
    expect(lookup(a.foreign, a.own), "another pod's").toEqual(captured);
  });

  test.each(['POD_PREPARED', 'POD_ACTIVE', 'POD_DRAINING'] as const)('a trial is refused and noted, %s', (name) => {
    state(name);
    trial(a.own);
    expect(lookup(a.foreign, a.own, wire.PORT_TRIAL)).toEqual({ passes: false, reasons: { MISC_TRIAL: 1 } });
    expect(maps.trials.get({ cookie: COOKIE, addr: a.own })).toEqual({ src: a.foreign, sport: SPORT, seen: 1 });
  });

  test("a trial's port is as any without a trial of that address, and others are during one", () => {
    expect(lookup(a.foreign, a.own, wire.PORT_TRIAL)).toEqual(captured);
    trial(a.own2);
    expect(lookup(a.foreign, a.own, wire.PORT_TRIAL)).toEqual(captured);
    expect(lookup(a.foreign, a.own2)).toEqual(captured);
    expect(maps.trials.get({ cookie: COOKIE, addr: a.own2 })).toMatchObject({ seen: 0 });
  });
});
