/** What is kept of rules that were read once: of which netns, and how much. */
import { closeSync, openSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Memo, type Asked, type Known } from '../../../src/redirect/netfilter/memo.ts';
import { Place } from '../sys/place.ts';

const ABOUT = '4,6';
let one: Place;
let other: Place;
beforeAll(() => {
  one = Place.create('memo1');
  other = Place.create('memo2');
});
afterAll(() => {
  for (const place of [one, other]) place.close();
});

const value = (known: Known<string> | Asked): string | undefined => ('key' in known ? undefined : known.value);

function asked<T>(memo: Memo<T>, netnsFd: number): Asked {
  const known = memo.recall(netnsFd, ABOUT);
  if ('key' in known) return known;
  throw new Error('it is known already');
}

it('of one netns counts for every one with the same rules; nothing for another answer', () => {
  const memo = new Memo<string>();
  memo.keep(one.netns.fd, ABOUT, asked(memo, one.netns.fd), 'no rule');
  expect([value(memo.recall(other.netns.fd, ABOUT)), value(memo.recall(other.netns.fd, '4'))]).toEqual(['no rule', undefined]);
});

it('is not kept for another netns that has the descriptor by the time of the answer, nor for a closed one', () => {
  const memo = new Memo<string>();
  const fd = openSync(one.path, 'r');
  const question = asked(memo, fd);
  closeSync(fd);
  memo.keep(fd, ABOUT, question, 'of a pod that left');
  expect(value(memo.recall(one.netns.fd, ABOUT))).toBeUndefined();
  const again = openSync(other.path, 'r');
  try {
    expect(again).toBe(fd);
    memo.keep(fd, ABOUT, question, 'of a pod that left');
    expect(value(memo.recall(one.netns.fd, ABOUT))).toBeUndefined();
  } finally {
    closeSync(again);
  }
});

it('is not kept of more rules than anybody needs', () => {
  const memo = new Memo<string>();
  const rules =
    'add table ip t\nadd chain ip t c\n$(for i in $(seq 1000); do echo add rule ip t c ip saddr 10.0.0.1 tcp dport $i accept; done)';
  one.shell(`nft -f - <<END\n${rules}\nEND`);
  memo.keep(one.netns.fd, ABOUT, asked(memo, one.netns.fd), 'a thousand rules');
  expect(value(memo.recall(one.netns.fd, ABOUT))).toBeUndefined();
});
