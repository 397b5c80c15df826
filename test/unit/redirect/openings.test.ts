import { pino } from 'pino';
import { expect, it } from 'vitest';
import { CulvertError } from '../../../src/base/errors.ts';
import type { DriverName } from '../../../src/redirect/driver.ts';
import { Openings } from '../../../src/redirect/openings.ts';
import { FakeDriver } from '../../support/fake-driver.ts';

/** One reason for each attempt; then it can be opened. */
function openings(...refusals: string[]): { openings: Openings; said: string[]; came: string[]; attempts: () => number } {
  const said: string[] = [];
  const came: string[] = [];
  let attempts = 0;
  const open = (): Promise<FakeDriver> => {
    const why = refusals[attempts++];
    return why === undefined ? Promise.resolve(new FakeDriver('nftables')) : Promise.reject(new CulvertError('KERNEL_UNSUPPORTED', why));
  };
  const log = pino({ level: 'warn' }, { write: (line: string) => said.push((JSON.parse(line) as { error: string }).error) });
  return { openings: new Openings(open, ({ name }) => came.push(name), log), said, came, attempts: () => attempts };
}

it('a driver that is refused is tried when told to, and each reason is said once', async () => {
  const { openings: of, said, came, attempts } = openings('no nft', 'no nft', 'no nf_tables');
  expect(await of.open('nftables')).toBeUndefined();
  expect(await of.open('nftables')).toBeUndefined();
  expect([attempts(), of.refusal('nftables')]).toEqual([1, 'no nft']);
  const asked = new Set(['nftables'] as const);
  await of.retry(asked);
  await of.retry(asked);
  expect([said, of.refusal('nftables'), came]).toEqual([['no nft', 'no nf_tables'], 'no nf_tables', []]);
  for (let i = 0; i < 2; i++) {
    await of.retry(asked);
    expect([of.refusal('nftables'), came, attempts()]).toEqual([undefined, ['nftables'], 4]);
  }
});

it('of one that nobody asks for any more nothing is known: the next pod that asks has it tried, without the same being said again', async () => {
  const { openings: of, said, attempts } = openings('no nft', 'no nft');
  await of.open('nftables');
  await of.retry(new Set());
  expect([attempts(), of.refusals().size]).toEqual([1, 0]);
  await of.open('nftables');
  expect([attempts(), said]).toEqual([2, ['no nft']]);
});

it('pods that ask at once get the same one', async () => {
  const { openings: of, came, attempts } = openings();
  const [one, other] = await Promise.all([of.open('nftables'), of.open('nftables')]);
  expect([one === other, came, attempts()]).toEqual([true, ['nftables'], 1]);
});

it('what opens after the end is closed', async () => {
  const driver = new FakeDriver('nftables');
  const came: string[] = [];
  const late = new Openings(
    () => Promise.resolve(driver),
    ({ name }) => came.push(name),
    pino({ level: 'silent' }),
  );
  const asked = [late.open('nftables'), late.open('nftables')];
  late.close();
  expect(await Promise.all(asked)).toEqual([undefined, undefined]);
  expect([driver.calls, came]).toEqual([['close'], []]);
});

it('who asks for one that has opened finds it, though another is still being tried', async () => {
  const names = ['iptables', 'nftables'] as const;
  let here = false;
  const came: string[] = [];
  const open = async (name: DriverName): Promise<FakeDriver> => {
    if (!here) throw new CulvertError('KERNEL_UNSUPPORTED', `use ${name}: not here`);
    if (name === 'nftables') await new Promise(() => undefined);
    return new FakeDriver(name);
  };
  const of = new Openings(open, ({ name }) => came.push(name), pino({ level: 'silent' }));
  for (const name of names) await of.open(name);
  here = true;
  void of.retry(new Set(names));
  while (of.refusal('iptables') !== undefined) await Promise.resolve();
  expect(came).toEqual(['iptables']);
});
