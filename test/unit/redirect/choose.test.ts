import { describe, expect, it } from 'vitest';
import { chooseDriver, type DriverChoice, type Usable } from '../../../src/redirect/choose.ts';
import type { DriverName } from '../../../src/redirect/driver.ts';

const yes: Usable = { usable: true, reasons: [] };
const no = (...reasons: string[]): Usable => ({ usable: false, reasons });

/** @param node what each would answer; asking one that is not named fails the test */
function choose(choice: DriverChoice, node: Partial<Record<DriverName, Usable>>, iptablesInUse?: boolean) {
  return chooseDriver(choice, {
    probe: (name) => {
      const answer = node[name];
      if (answer === undefined) throw new Error(`${name} was asked`);
      return answer;
    },
    iptablesInUse: () => {
      if (iptablesInUse === undefined) throw new Error('the node was looked at');
      return iptablesInUse;
    },
  });
}

describe('auto', () => {
  it('takes ebpf where it can run, and asks no other', async () => {
    expect(await choose('auto', { ebpf: yes })).toEqual({ name: 'ebpf', forced: false, reasons: [] });
  });

  it('takes nftables where ebpf cannot run, and says why', async () => {
    expect(await choose('auto', { ebpf: no('no sk_lookup programs', 'no BPF ring buffer'), nftables: yes }, false)).toEqual({
      name: 'nftables',
      forced: false,
      reasons: ['not ebpf: no sk_lookup programs; no BPF ring buffer'],
    });
  });

  it('stays with iptables where the node has probe sets of it', async () => {
    expect(await choose('auto', { ebpf: no('old'), iptables: yes }, true)).toMatchObject({ name: 'iptables', reasons: ['not ebpf: old'] });
  });

  it('takes the last that can run, with every reason', async () => {
    expect(await choose('auto', { ebpf: no('old'), nftables: no('there is no program nft'), iptables: yes }, false)).toMatchObject({
      name: 'iptables',
      reasons: ['not ebpf: old', 'not nftables: there is no program nft'],
    });
  });

  it('fails with every reason where none can run', async () => {
    await expect(choose('auto', { ebpf: no('old'), nftables: no('no nft'), iptables: no('no ip_tables') }, false)).rejects.toMatchObject({
      code: 'KERNEL_UNSUPPORTED',
      message: 'choose a redirect driver: not ebpf: old; not nftables: no nft; not iptables: no ip_tables',
    });
  });
});

describe('forced', () => {
  it.each(['ebpf', 'iptables', 'nftables'] as const)('%s is asked alone', async (name) => {
    expect(await choose(name, { [name]: yes })).toEqual({ name, forced: true, reasons: [] });
    await expect(choose(name, { [name]: no('it is not there', 'nor could it be') })).rejects.toMatchObject({
      code: 'KERNEL_UNSUPPORTED',
      message: `use ${name}, as redirectDriver says: it is not there; nor could it be`,
    });
  });
});
