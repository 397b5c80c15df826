/** The sets of addresses that the node's rule looks into, as ipset restore reads them. A member's comment is its pod's uid. */
import { familyOf } from '../../state/address.ts';
import type { Member } from '../netfilter/backend.ts';
import { FAMILIES, PROBE_SET } from '../netfilter/rules.ts';

export function setsMade(members: readonly Member[]): string {
  const sets = FAMILIES.flatMap((family) => [
    `create ${PROBE_SET[family]} hash:ip family ${family === 4 ? 'inet' : 'inet6'} comment`,
    `flush ${PROBE_SET[family]}`,
  ]);
  return `${sets.join('\n')}\n${membersOf(true, members)}`;
}

export function membersOf(add: boolean, members: readonly Member[]): string {
  const line = ({ address, uid }: Member): string => {
    const entry = `${PROBE_SET[familyOf(address)]} ${address}`;
    return add ? `add ${entry} comment "${uid.replaceAll('"', '')}"\n` : `del ${entry}\n`;
  };
  return members.map(line).join('');
}

export function setsGone(): string[] {
  return FAMILIES.map((family) => PROBE_SET[family]);
}
