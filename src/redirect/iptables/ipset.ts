/** The sets of addresses that the node's rule looks into, as ipset restore reads them. A member's comment is its pod's uid. */
import type { NetnsOp } from '../../sys/native.ts';
import { familyOf } from '../../state/address.ts';
import type { Member } from '../netfilter/backend.ts';
import { FAMILIES, PROBE_SET } from '../netfilter/rules.ts';

/** A set that is there is exchanged for one that is complete: there is no moment without a member that belongs in it. */
export function setsMade(members: readonly Member[]): string {
  return FAMILIES.map((family) => {
    const set = PROBE_SET[family];
    const fresh = `${set}-new`;
    const made = (name: string): string => `create ${name} hash:ip family ${family === 4 ? 'inet' : 'inet6'} comment\n`;
    const own = members.filter(({ address }) => familyOf(address) === family);
    return `${made(set)}${made(fresh)}flush ${fresh}\n${added(fresh, own)}swap ${fresh} ${set}\ndestroy ${fresh}\n`;
  }).join('');
}

/** For sets that are there: a few members cost no process. */
export function membersOf(add: boolean, members: readonly Member[]): NetnsOp[] {
  return members.map(({ address, uid }) => {
    const family = familyOf(address);
    return { op: 'ipset-member', add, family, name: PROBE_SET[family], address, comment: commentOf(uid) };
  });
}

/** ipset knows no way to write a quote inside of quotes. */
const commentOf = (uid: string): string => uid.replaceAll('"', '');

function added(set: string, members: readonly Member[]): string {
  return members.map(({ address, uid }) => `add ${set} ${address} comment "${commentOf(uid)}"\n`).join('');
}

export function setsGone(): string[] {
  return FAMILIES.flatMap((family) => [PROBE_SET[family], `${PROBE_SET[family]}-new`]);
}
