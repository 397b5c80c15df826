/** istio-cni's rules in a pod that leaves while they are taken off. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { PodTarget } from '../../../src/redirect/driver.ts';
import { captures, IstioRules, readTraces } from '../../../src/redirect/istio-cni/index.ts';
import { Netns } from '../../../src/sys/netns.ts';
import { Place } from '../sys/place.ts';

let leaving: Place;
let other: Place;
const dir = mkdtempSync(join(tmpdir(), 'culvert-istio-rules-'));
beforeAll(() => {
  leaving = Place.create('istio1');
  other = Place.create('istio2');
  for (const place of [leaving, other])
    for (const program of ['iptables-nft', 'ip6tables-nft'])
      place.shell(
        `${program} -t nat -N ISTIO_OUTPUT; ${program} -t nat -A OUTPUT -j ISTIO_OUTPUT; ${program} -t nat -A ISTIO_OUTPUT -p tcp -j REDIRECT --to-ports 15001`,
      );
});
afterAll(() => {
  for (const place of [leaving, other]) place.close();
  rmSync(dir, { recursive: true });
});

const targetOf = (place: Place): PodTarget => ({
  ...{ uid: 'u', namespace: 'shop', name: 'a', netnsFd: place.netns.fd, netnsCookie: 1n, netnsPath: '' },
  flags: { dns: true, ingressMode: false, markOnly: false },
});

it('that were kept: what shelters a pod from them stays until our redirect serves it', async () => {
  const o = { deadlineMs: 0, lockFile: join(dir, 'lock'), log: pino({ level: 'silent' }) };
  const sheltered = (): boolean => bare.shell('ip rule').includes('lookup 101');
  const bare = Place.create('istio3');
  const [kept, now] = [new IstioRules({ ...o, keep: true }), new IstioRules({ ...o, keep: false })];
  try {
    kept.meet(targetOf(bare));
    now.meet(targetOf(bare));
    expect(sheltered()).toBe(true);
    await now.release(1n);
    expect(sheltered()).toBe(false);
  } finally {
    await Promise.all([kept.close(), now.close()]);
    bare.close();
  }
});

it('are taken off to the end, and no rules of a pod that has its descriptor since', async () => {
  const complaints: string[] = [];
  const log = pino({ level: 'warn' }, { write: (line: string) => complaints.push(line) });
  const rules = new IstioRules({ keep: false, deadlineMs: 0, lockFile: join(dir, 'lock'), log });
  expect([captures(readTraces(leaving.netns)), rules.meet(targetOf(leaving))]).toEqual([true, true]);
  const released = rules.release(1n);
  rules.forget(1n);
  using late = Netns.open(other.path);
  await released;
  await rules.close();
  expect(complaints).toEqual([]);
  expect([captures(readTraces(leaving.netns)), captures(readTraces(late))]).toEqual([false, true]);
});
