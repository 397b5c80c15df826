import { pino } from 'pino';
import { afterEach, describe, expect, it } from 'vitest';
import { CulvertError } from '../../../src/base/errors.ts';
import type { DriverName, PodTarget } from '../../../src/redirect/driver.ts';
import { SeveralDrivers, type SeveralOptions } from '../../../src/redirect/several.ts';
import { FakeDriver } from '../../support/fake-driver.ts';

const COOKIE = 7n;
const pod: PodTarget = {
  uid: 'uid-a',
  namespace: 'shop',
  name: 'a',
  netnsFd: 107,
  netnsCookie: COOKIE,
  netnsPath: '/ns/a',
  flags: { dns: true, ingressMode: false, markOnly: false },
};

/** Pods that istio-cni never had, unless it is said. */
class NoIstio {
  rules = false;
  readonly calls: string[] = [];
  meet = (): boolean => this.rules;
  capture = (): boolean => this.rules;
  release = (): Promise<void> => {
    this.calls.push('release');
    return Promise.resolve();
  };
  forget = (): void => undefined;
  recheck = (): Promise<void> => Promise.resolve();
  warnings = (): string[] => [];
  onWarnings = (): { close(): void } => ({ close: () => undefined });
  nodeWarnings = (): string[] => [];
  cleared: () => void = () => undefined;
  onNodeCleared = (listener: () => void): void => {
    this.cleared = listener;
  };
  close = (): Promise<void> => Promise.resolve();
}

/** What happened in netns, beside the drivers' own doing: "forget 107" */
const inNetns: string[] = [];
let kept = 0;

function several(chosen: FakeDriver, others: FakeDriver[] = [], change: Partial<SeveralOptions> = {}): SeveralDrivers {
  return new SeveralDrivers({
    chosen,
    reasons: [],
    forced: false,
    held: [],
    open: (name) => {
      const found = others.find((driver) => driver.name === name);
      return found === undefined ? Promise.reject(new CulvertError('KERNEL_UNSUPPORTED', `use ${name}: not here`)) : Promise.resolve(found);
    },
    retire: (driver) => {
      driver.close();
      return Promise.resolve();
    },
    tunnels: () => [4711],
    istio: new NoIstio(),
    log: pino({ level: 'silent' }),
    netns: {
      keep: (fd) => {
        kept++;
        return { fd, close: () => kept-- };
      },
      forgetOpenStreams: (fd) => void inNetns.push(`forget ${fd}`),
    },
    settleMs: 0,
    moveDeadlineMs: 60_000,
    ...change,
  });
}

async function enrol(drivers: SeveralDrivers, by?: DriverName): Promise<void> {
  await drivers.prepare({ ...pod, ...(by !== undefined && { driver: by }) });
  await drivers.activate(COOKIE);
}

const stateIn = (driver: FakeDriver): string => driver.kernel.get(COOKIE)?.state ?? 'none';

afterEach(() => {
  inNetns.length = 0;
  expect(kept).toBe(0); // no descriptor stays open
});

describe('which driver serves a pod', () => {
  it("is the node's where the pod says nothing; no other is opened", async () => {
    const [ebpf, iptables] = [new FakeDriver('ebpf'), new FakeDriver('iptables')];
    const drivers = several(ebpf, [iptables]);
    await enrol(drivers);
    expect([stateIn(ebpf), iptables.calls]).toEqual(['active', []]);
    expect(drivers.servedBy(COOKIE)).toBe('ebpf');
    expect(drivers.snapshot()).toEqual([expect.objectContaining({ cookie: COOKIE, state: 'active', driver: 'ebpf' })]);
  });

  it('is the one that the pod asks for, opened for it, told of tunnels that were trusted before', async () => {
    const [ebpf, iptables] = [new FakeDriver('ebpf'), new FakeDriver('iptables')];
    const drivers = several(ebpf, [iptables]);
    drivers.trustTunnel(99n);
    await enrol(drivers, 'iptables');
    expect([stateIn(ebpf), stateIn(iptables)]).toEqual(['none', 'active']);
    expect(iptables.trusted).toEqual(new Set([99n]));
    expect(inNetns).toEqual([]); // what its rules need, the driver puts there
  });

  it("is the node's, with a warning, where the asked one cannot run; it is not tried for every pod", async () => {
    const ebpf = new FakeDriver('ebpf');
    let asked = 0;
    const drivers = several(ebpf, [], {
      open: () => {
        asked++;
        return Promise.reject(new CulvertError('KERNEL_UNSUPPORTED', 'use nftables: there is no program nft'));
      },
    });
    await enrol(drivers, 'nftables');
    await drivers.reconcile({ ...pod, driver: 'nftables' });
    expect(drivers.warnings(COOKIE, 107)).toEqual([
      'it asks for redirect driver nftables, which cannot run on this node (use nftables: there is no program nft): ebpf serves it',
    ]);
    expect(drivers.reasons).toEqual(['pods that ask for nftables do not get it: use nftables: there is no program nft']);
    expect(asked).toBe(1);
    await drivers.reconcile(pod); // it asks no more
    expect(drivers.warnings(COOKIE, 107)).toEqual([]);
  });

  it('is the asked one once that can run: tried again at the slow tick', async () => {
    const [ebpf, nftables] = [new FakeDriver('ebpf'), new FakeDriver('nftables')];
    nftables.adoptable = 1;
    const here: FakeDriver[] = [];
    const drivers = several(ebpf, here);
    const told: string[] = [];
    drivers.onWarnings((cookie) => told.push(drivers.warnings(cookie, 107).join()));
    await enrol(drivers, 'nftables');
    await drivers.recheckPods();
    expect(drivers.overdue(COOKIE)).toBe(false);
    here.push(nftables);
    await drivers.recheckPods();
    expect([drivers.overdue(COOKIE), drivers.reasons, told.slice(2)]).toEqual([true, [], ['']]);
    await drivers.reconcile({ ...pod, driver: 'nftables' }); // as the reconciler does with one that is overdue
    await drivers.settled();
    expect([stateIn(ebpf), stateIn(nftables), drivers.overdue(COOKIE), told.at(-1)]).toEqual(['none', 'active', false, '']);
    expect(told[0]).toMatch(/^it asks for redirect driver nftables, which cannot run/);
  });
});

describe('a pod that moves', () => {
  it('is served by the new one before the old one stops', async () => {
    const [ebpf, iptables] = [new FakeDriver('ebpf'), new FakeDriver('iptables')];
    iptables.adoptable = 1;
    const drivers = several(ebpf, [iptables]);
    await enrol(drivers);
    const order: string[] = [];
    for (const driver of [ebpf, iptables]) {
      const push = driver.calls.push.bind(driver.calls);
      driver.calls.push = (...calls) => {
        order.push(...calls.map((call) => `${driver.name} ${call}`));
        return push(...calls);
      };
    }
    const entry = await drivers.reconcile({ ...pod, driver: 'iptables' });
    expect(entry).toMatchObject({ state: 'active', driver: 'iptables' });
    expect(order.filter((call) => !call.endsWith('refreshNode'))).toEqual([
      'iptables reconcile a',
      'iptables adoptListeners a 4711',
      'iptables activate a',
      'ebpf drain a',
    ]);
    expect(drivers.servedBy(COOKIE)).toBe('iptables');
    await drivers.settled();
    expect(ebpf.calls).toContain('remove a for a successor');
    expect([stateIn(ebpf), drivers.snapshot().length]).toEqual(['none', 1]);
  });

  it('stays with the old one when no tunnel listens for the new one', async () => {
    const [ebpf, iptables] = [new FakeDriver('ebpf'), new FakeDriver('iptables')];
    const drivers = several(ebpf, [iptables]);
    await enrol(drivers);
    await expect(drivers.reconcile({ ...pod, driver: 'iptables' })).rejects.toMatchObject({
      code: 'ENROL_FAILED',
      message: 'move pod shop/a to driver iptables: no tunnel listens for it',
    });
    expect([stateIn(ebpf), stateIn(iptables), drivers.servedBy(COOKIE)]).toEqual(['active', 'none', 'ebpf']);
    iptables.adoptable = 1; // the next attempt finds it
    await drivers.reconcile({ ...pod, driver: 'iptables' });
    await drivers.settled();
    expect([stateIn(ebpf), stateIn(iptables)]).toEqual(['none', 'active']);
  });

  it('is found again by an agent that has another driver now, and moved', async () => {
    const [ebpf, nftables] = [new FakeDriver('ebpf'), new FakeDriver('nftables')];
    await enrol(several(ebpf));
    nftables.adoptable = 1;
    const drivers = several(nftables, [], { held: [ebpf], forced: true });
    expect(drivers.snapshot()).toMatchObject([{ cookie: COOKIE, state: 'active', driver: 'ebpf' }]);
    expect([drivers.name, drivers.forced]).toEqual(['nftables', true]);
    await drivers.reconcile(pod);
    await drivers.settled();
    expect([stateIn(ebpf), stateIn(nftables)]).toEqual(['none', 'active']);
    drivers.refreshNode();
    expect(ebpf.calls).not.toContain('close');
    drivers.refreshNode();
    await Promise.resolve();
    expect(ebpf.calls).toContain('close'); // it serves nobody: off the node
  });

  it('that both had when the agent died is the one of whom it should be', async () => {
    const [ebpf, iptables] = [new FakeDriver('ebpf'), new FakeDriver('iptables')];
    for (const driver of [ebpf, iptables]) {
      await driver.prepare(pod);
      driver.activate(COOKIE);
      driver.listening.set(COOKIE, [15001]);
    }
    const drivers = several(ebpf, [], { held: [iptables] });
    expect(drivers.snapshot()).toHaveLength(1);
    expect(drivers.servedBy(COOKIE)).toBe('ebpf');
    await drivers.reconcile(pod);
    await drivers.settled();
    expect([stateIn(ebpf), stateIn(iptables)]).toEqual(['active', 'none']);
  });
});

describe('a pod that leaves', () => {
  it('is taken off every driver that has something of it', async () => {
    const [ebpf, iptables] = [new FakeDriver('ebpf'), new FakeDriver('iptables')];
    for (const driver of [ebpf, iptables]) {
      await driver.prepare(pod);
      driver.activate(COOKIE);
    }
    const drivers = several(ebpf, [], { held: [iptables] });
    await drivers.drain(COOKIE);
    await drivers.remove(COOKIE, 107, 0);
    expect([stateIn(ebpf), stateIn(iptables), drivers.snapshot()]).toEqual(['none', 'none', []]);
    expect(inNetns).toEqual(['forget 107']);
    await drivers.remove(COOKIE, undefined, 0); // once more: nothing
  });
});

it('tells events and warnings of every driver, also of those that come later', async () => {
  const [ebpf, iptables] = [new FakeDriver('ebpf'), new FakeDriver('iptables')];
  const drivers = several(ebpf, [iptables]);
  const seen: string[] = [];
  const events = drivers.onEvent(({ reason }) => seen.push(reason));
  drivers.onWarnings((cookie) => seen.push(`warning ${cookie}`));
  await enrol(drivers, 'iptables');
  const event = { time: '', cookie: COOKIE, direction: 'outbound', verdict: 'redirected', dst: '' } as const;
  ebpf.emit({ ...event, reason: 'of ebpf' });
  iptables.emit({ ...event, reason: 'of iptables' });
  iptables.warn(COOKIE, 'not well');
  expect(seen).toEqual(['of ebpf', 'of iptables', `warning ${COOKIE}`]);
  expect(drivers.warnings(COOKIE, 107)).toEqual(['not well']);
  events.close();
  ebpf.emit({ ...event, reason: 'after' });
  expect(seen).toHaveLength(3);
});

describe('a pod that istio-cni redirected', () => {
  it("has Istio's rules until ours serve it, and keeps rule and route when it goes back to them", async () => {
    const ebpf = new FakeDriver('ebpf');
    const istio = new NoIstio();
    istio.rules = true;
    const drivers = several(ebpf, [], { istio });
    expect(await drivers.prepare(pod)).toMatchObject({ foreign: true, state: 'prepared' });
    expect(istio.calls).toEqual([]);
    await drivers.remove(COOKIE, 107, 0); // joining failed
    expect(ebpf.calls.at(-1)).toBe('remove a for a successor');
    await enrol(drivers);
    expect(istio.calls).toEqual(['release']);
  });
});

describe('two things at once', () => {
  const held = (): { ebpf: FakeDriver; iptables: FakeDriver; drivers: SeveralDrivers } => {
    const [ebpf, iptables] = [new FakeDriver('ebpf'), new FakeDriver('iptables')];
    for (const driver of [ebpf, iptables]) driver.adoptable = 1;
    return { ebpf, iptables, drivers: several(ebpf, [iptables], { settleMs: 60_000 }) };
  };

  it('a pod that comes back before the driver that it left has ended there keeps it', async () => {
    const { ebpf, iptables } = held();
    const drivers = several(ebpf, [iptables], { settleMs: 20 });
    await enrol(drivers);
    await drivers.reconcile({ ...pod, driver: 'iptables' });
    await drivers.reconcile(pod);
    await drivers.settled();
    expect([stateIn(ebpf), stateIn(iptables), drivers.servedBy(COOKIE)]).toEqual(['active', 'none', 'ebpf']);
  });

  it('a pod leaves while another driver ends there: that one is asked for nothing but its end', async () => {
    const { ebpf, iptables, drivers } = held();
    await enrol(drivers);
    await drivers.reconcile({ ...pod, driver: 'iptables' });
    ebpf.failures.set('drain', [new CulvertError('NETNS_UNKNOWN', 'drain netns 7: it is not prepared')]);
    ebpf.hbone.set(COOKIE, 3);
    await drivers.drain(COOKIE);
    expect([stateIn(iptables), await drivers.hboneAccepted(COOKIE)]).toEqual(['draining', 0]);
    await drivers.remove(COOKIE, 107, 0);
    await drivers.settled();
    expect([stateIn(ebpf), stateIn(iptables), drivers.snapshot()]).toEqual(['none', 'none', []]);
  });

  it('a driver that serves nobody yet stays while a pod is being made ready for it', async () => {
    const { iptables, drivers } = held();
    await enrol(drivers, 'iptables');
    await drivers.drain(COOKIE);
    await drivers.remove(COOKIE, 107, 0);
    drivers.refreshNode(); // idle
    let ready = (): void => undefined;
    const prepare = iptables.prepare.bind(iptables);
    iptables.prepare = async (target) => {
      await new Promise<void>((resolve) => (ready = resolve));
      return prepare(target);
    };
    const preparing = drivers.prepare({ ...pod, driver: 'iptables' });
    while (String(ready) === '() => undefined') await Promise.resolve();
    drivers.refreshNode();
    drivers.refreshNode();
    ready();
    await preparing;
    expect(iptables.calls).not.toContain('close');
    expect(drivers.servedBy(COOKIE)).toBe('iptables');
  });

  it('a driver that is wanted again while it is taken off the node is opened when that is done', async () => {
    const [ebpf, iptables] = [new FakeDriver('ebpf'), new FakeDriver('iptables')];
    const order: string[] = [];
    let off = (): void => undefined;
    const drivers = several(ebpf, [], {
      held: [iptables],
      open: () => {
        order.push('opened');
        return Promise.resolve(iptables);
      },
      retire: () =>
        new Promise<void>((resolve) => {
          off = () => {
            order.push('off');
            resolve();
          };
        }),
    });
    drivers.refreshNode();
    drivers.refreshNode();
    const preparing = drivers.prepare({ ...pod, driver: 'iptables' });
    for (let i = 0; i < 10; i++) await Promise.resolve();
    off();
    await preparing;
    expect(order).toEqual(['off', 'opened']);
  });
});

it('a pod that moves keeps its virtual interfaces', async () => {
  const [ebpf, iptables] = [new FakeDriver('ebpf'), new FakeDriver('iptables')];
  iptables.adoptable = 1;
  const asked: PodTarget[] = [];
  const reconcile = iptables.reconcile.bind(iptables);
  iptables.reconcile = (target) => {
    asked.push(target);
    return reconcile(target);
  };
  const drivers = several(ebpf, [iptables]);
  await enrol(drivers);
  await drivers.reconcile({ ...pod, driver: 'iptables', virtualInterfaces: ['veth9'] });
  await drivers.settled();
  expect(asked.map(({ virtualInterfaces }) => virtualInterfaces)).toEqual([['veth9'], ['veth9']]);
});

it('forgets a pod of istio-cni that could not be prepared, with its descriptor', async () => {
  const ebpf = new FakeDriver('ebpf');
  const istio = new NoIstio();
  istio.forget = () => void istio.calls.push('forget');
  ebpf.failures.set('prepare', [new CulvertError('SYSTEM', 'no')]);
  await expect(several(ebpf, [], { istio }).prepare(pod)).rejects.toThrow('no');
  expect(istio.calls).toEqual(['forget']);
});

it('reads of every pod only what moved: taking one costs the same, however many there are', async () => {
  const ebpf = new FakeDriver('ebpf');
  const drivers = several(ebpf);
  let read = 0;
  const snapshot = ebpf.snapshot.bind(ebpf);
  ebpf.snapshot = () => {
    read++;
    return snapshot();
  };
  await enrol(drivers);
  await drivers.reconcile(pod);
  expect(read).toBe(0);
});
