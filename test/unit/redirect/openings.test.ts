import { pino } from 'pino';
import { expect, it } from 'vitest';
import { CulvertError } from '../../../src/base/errors.ts';
import { Openings } from '../../../src/redirect/openings.ts';
import { FakeDriver } from '../../support/fake-driver.ts';

/** One reason for each attempt; then it can be opened. */
function openings(...refusals: string[]): { openings: Openings; said: string[]; attempts: () => number } {
  const said: string[] = [];
  let attempts = 0;
  const open = (): Promise<FakeDriver> => {
    const why = refusals[attempts++];
    return why === undefined ? Promise.resolve(new FakeDriver('nftables')) : Promise.reject(new CulvertError('KERNEL_UNSUPPORTED', why));
  };
  const log = pino({ level: 'warn' }, { write: (line: string) => said.push((JSON.parse(line) as { error: string }).error) });
  return { openings: new Openings(open, log), said, attempts: () => attempts };
}

it('a driver that is refused is tried when told to, and each reason is said once', async () => {
  const { openings: of, said, attempts } = openings('no nft', 'no nft', 'no nf_tables');
  expect(await of.open('nftables')).toBeUndefined();
  expect(await of.open('nftables')).toBeUndefined();
  expect([attempts(), of.refusal('nftables')]).toEqual([1, 'no nft']);
  const asked = new Set(['nftables'] as const);
  expect(await of.retry(asked)).toEqual([]);
  expect(await of.retry(asked)).toEqual([]);
  expect([said, of.refusal('nftables')]).toEqual([['no nft', 'no nf_tables'], 'no nf_tables']);
  expect(await of.retry(asked)).toMatchObject([{ name: 'nftables' }]);
  expect([of.refusal('nftables'), await of.retry(asked), attempts()]).toEqual([undefined, [], 4]);
});

it('of one that nobody asks for any more nothing is known: the next pod that asks has it tried, without the same being said again', async () => {
  const { openings: of, said, attempts } = openings('no nft', 'no nft');
  await of.open('nftables');
  expect(await of.retry(new Set())).toEqual([]);
  expect([attempts(), of.refusals().size]).toEqual([1, 0]);
  await of.open('nftables');
  expect([attempts(), said]).toEqual([2, ['no nft']]);
});

it('pods that ask at once get the same one', async () => {
  const { openings: of, attempts } = openings();
  const [one, other] = await Promise.all([of.open('nftables'), of.open('nftables')]);
  expect([one === other, attempts()]).toEqual([true, 1]);
});

it('what opens after the end is closed', async () => {
  const driver = new FakeDriver('nftables');
  const late = new Openings(() => Promise.resolve(driver), pino({ level: 'silent' }));
  const opening = late.open('nftables');
  late.close();
  expect(await opening).toBeUndefined();
  expect(driver.calls).toContain('close');
});
