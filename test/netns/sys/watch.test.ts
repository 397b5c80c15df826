/** rtnetlink notices of a namespace. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { native } from '../../../src/sys/native.ts';
import { Place, until } from './place.ts';

describe('netns watch', () => {
  let place: Place;
  let seen = new Set<string>();
  let watch: { close(): void };
  beforeAll(() => {
    place = Place.create('watch');
    watch = native.netnsWatch(place.netns.fd, (what) => {
      for (const each of what) seen.add(each);
    });
  });
  afterAll(() => {
    watch.close();
    place.close();
  });

  it.each([
    ['address', 'ip addr add 10.9.0.2/24 dev eth0', 'ip addr del 10.9.0.2/24 dev eth0'],
    ['address', 'ip addr add fd09::2/64 dev eth0', 'ip addr del fd09::2/64 dev eth0'],
    ['rule', 'ip rule add pref 5 fwmark 1 lookup 5', 'ip rule del pref 5'],
    ['rule', 'ip -6 rule add pref 5 fwmark 1 lookup 5', 'ip -6 rule del pref 5'],
    ['route', 'ip route add 10.10.0.0/16 dev eth0', 'ip route del 10.10.0.0/16'],
    ['route', 'ip -6 route add fd10::/64 dev eth0', 'ip -6 route del fd10::/64'],
  ])('notices a change of %s: %s', async (subject, add, remove) => {
    for (const command of [add, remove]) {
      seen = new Set();
      place.shell(command);
      await until(`${subject} is noticed`, () => seen.has(subject));
    }
  });

  it('says when notices were lost', async () => {
    seen = new Set();
    // Nothing is read while this runs on the JS thread: more than the socket's buffer holds.
    place.shell(
      'i=0; while [ $i -lt 4000 ]; do i=$((i + 1)); echo "route add 10.20.$((i / 250)).$((i % 250))/32 dev eth0"; done | ip -batch -',
    );
    await until('the overflow is noticed', () => seen.has('overflow'));
    seen = new Set();
    place.shell('ip addr add 10.9.0.3/24 dev eth0');
    await until('the next change is noticed', () => seen.has('address'));
  });

  it('is silent once closed', async () => {
    watch.close();
    watch.close();
    seen = new Set();
    place.shell('ip addr add 10.9.0.4/24 dev eth0');
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(seen).toEqual(new Set());
  });
});
