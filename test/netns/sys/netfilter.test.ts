/** What the addon reads and writes of netfilter, held against what the node's tools say. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Place, startThreads } from './place.ts';

let place: Place;
beforeAll(() => {
  startThreads();
  place = Place.create('nf');
});
afterAll(() => place.close());

const words = (): string => Buffer.from(place.netns.run({ op: 'nft-ruleset' }).words).toString('hex');

it('a ruleset has the same words as long as its rules are the same, whatever they have counted', () => {
  expect([words(), place.netns.run({ op: 'nft-ruleset' }).packets]).toEqual(['', []]);
  expect(place.shell('nft list tables')).toBe('');
  place.shell(
    'nft add table ip t; nft add chain ip t c "{ type filter hook output priority 0; }"; nft add rule ip t c counter; ip link set lo up',
  );
  const one = words();
  place.shell("bash -c 'echo > /dev/udp/127.0.0.1/9'");
  expect(words()).toBe(one);
  const [rule] = place.netns.run({ op: 'nft-ruleset' }).packets;
  const packets = /packets (\d+)/.exec(place.shell('nft list ruleset'))?.[1];
  expect(rule).toEqual({ chain: '2 t c', packets: Number(packets) });
  expect(Number(packets)).toBeGreaterThan(0);
  const seen = new Set([one]);
  for (const change of [
    'add rule ip t c drop',
    'add rule ip t c tcp dport 80 accept',
    'insert rule ip t c accept comment "x"',
    'add chain ip t other',
    'add table ip6 t',
    'chain ip t c { policy drop; }',
  ]) {
    place.shell(`nft '${change}'`);
    expect(seen.has(words()), change).toBe(false);
    seen.add(words());
  }
});

it('members of an ipset are put in and taken out, twice is once', () => {
  place.shell('ipset create four hash:ip family inet comment; ipset create six hash:ip family inet6 comment');
  const members = (): string[] => place.shell('ipset save | grep ^add || :').trim().split('\n');
  try {
    for (let i = 0; i < 2; i++) {
      place.netns.run({ op: 'ipset-member', add: true, family: 4, name: 'four', address: '10.1.2.3', comment: 'uid a' });
      place.netns.run({ op: 'ipset-member', add: true, family: 6, name: 'six', address: 'fd00::1', comment: 'b' });
    }
    expect(members()).toEqual(['add four 10.1.2.3 comment "uid a"', 'add six fd00::1 comment "b"']);
    for (let i = 0; i < 2; i++)
      place.netns.run({ op: 'ipset-member', add: false, family: 4, name: 'four', address: '10.1.2.3', comment: '' });
    expect(members()).toEqual(['add six fd00::1 comment "b"']);
    expect(() => place.netns.run({ op: 'ipset-member', add: true, family: 4, name: 'none', address: '10.1.2.3', comment: '' })).toThrow(
      expect.objectContaining({ systemCode: 'ENOENT' }) as Error,
    );
  } finally {
    place.shell('ipset destroy four; ipset destroy six');
  }
});
