/** What the maps hold of one netns, beside its `pods` entry: addresses, and what must go when it leaves. */
import { isSystem } from '../../base/errors.ts';
import { deleteCounters, formatAddress, parseAddress, TUNNEL_PORTS, wire, type Maps } from '../../maps/index.ts';
import type { Address } from '../../sys/native.ts';
import { isOfPod } from './netns-settings.ts';

/** Addresses of one netns as last written. Only this process writes them, so after the first reading memory is the truth. */
export interface Written {
  own: Set<string>;
  byAddress: Set<string>;
  /** addresses that were left out: another pod's (`holder`, its cookie), or more than a pod may have */
  refused: { addr: string; holder?: bigint }[];
}

export function nothingWritten(): Written {
  return { own: new Set(), byAddress: new Set(), refused: [] };
}

/** A pod that gives itself addresses without end (NET_ADMIN) must not fill the maps, which all pods of the node share. */
export const MOST_ADDRESSES = 256;

/** Everything the maps hold, by cookie: one dump at start instead of one per pod. */
export function readWritten(maps: Maps): Map<bigint, Written> {
  const all = new Map<bigint, Written>();
  const of = (cookie: bigint): Written => {
    const written = all.get(cookie) ?? nothingWritten();
    all.set(cookie, written);
    return written;
  };
  for (const { key } of maps.own.entries()) of(key.cookie).own.add(key.addr);
  for (const { key, value } of maps.podByAddr.entries()) of(value).byAddress.add(key);
  return all;
}

/**
 * Brings `own` and `pod_by_addr` to these addresses. Removals come first: a missing entry sends a connection through the tunnel,
 * an extra one lets it pass by. Among the additions probes come first: they are exempt before anything can be captured.
 *
 * A pod can give itself any address (NET_ADMIN), and kubelet's probes of the pod whose it is must not lose their exemption by that. So
 * only a netns that joins takes an address over, from a pod that died and was not removed yet; who comes with it later is refused.
 */
export function writeAddresses(maps: Maps, cookie: bigint, written: Written, addresses: Address[]): void {
  const joining = written.own.size === 0;
  const all = addresses.map((a) => canonical(a.address));
  const own = firstOf(all, written.own);
  const ofPod = firstOf(
    addresses.filter(isOfPod).map((a) => canonical(a.address)),
    written.byAddress,
  );
  const held = [...ofPod].flatMap((addr) => {
    const holder = joining ? undefined : otherHolder(maps, cookie, addr);
    return holder === undefined ? [] : [{ addr, holder }];
  });
  const byAddress = new Set(without(ofPod, new Set(held.map(({ addr }) => addr))));
  written.refused = [...held, ...without(new Set(all), own).map((addr) => ({ addr }))];
  for (const addr of without(written.own, own)) {
    maps.own.delete({ cookie, addr });
    written.own.delete(addr);
  }
  for (const addr of without(written.byAddress, byAddress)) {
    forgetAddress(maps, cookie, addr);
    written.byAddress.delete(addr);
  }
  for (const addr of without(byAddress, written.byAddress)) {
    maps.podByAddr.set(addr, cookie);
    written.byAddress.add(addr);
  }
  for (const addr of without(own, written.own)) {
    maps.own.set({ cookie, addr }, 1);
    written.own.add(addr);
  }
}

/** The node's new connections to this pod are no longer exempt. */
export function removeByAddress(maps: Maps, cookie: bigint, written: Written): void {
  for (const addr of written.byAddress) forgetAddress(maps, cookie, addr);
  written.byAddress.clear();
}

/** The rest. `identity` goes last: until then readers of the pins can name what they see. */
export function removeEntries(maps: Maps, cookie: bigint, written: Written): void {
  removeByAddress(maps, cookie, written);
  for (const addr of written.own) maps.own.delete({ cookie, addr });
  written.own.clear();
  maps.pods.delete(cookie);
  maps.nodeSources.deleteWhere((key) => key.cookie === cookie);
  removeListeners(maps, cookie);
  deleteCounters(maps, cookie);
  maps.identity.delete(cookie);
}

export function removeListeners(maps: Maps, cookie: bigint): void {
  for (const port of TUNNEL_PORTS) {
    if (!maps.generation.delete({ cookie, port })) continue;
    for (let slot = 0; slot < wire.LISTENER_SLOTS; slot++) removeListener(maps, { cookie, port, slot });
  }
}

export function removeListener(maps: Maps, key: { cookie: bigint; port: number; slot: number }): void {
  try {
    maps.listeners.delete(key);
  } catch (error) {
    // what older kernels say when a SOCKHASH has no such key
    if (!isSystem(error, 'EINVAL')) throw error;
  }
}

/** As many as a pod may have, those that are written already before others. */
function firstOf(addresses: string[], written: ReadonlySet<string>): Set<string> {
  const order =
    addresses.length <= MOST_ADDRESSES ? addresses : addresses.toSorted((a, b) => Number(written.has(b)) - Number(written.has(a)));
  return new Set(order.slice(0, MOST_ADDRESSES));
}

/** The other enrolled netns that has this address. */
function otherHolder(maps: Maps, cookie: bigint, addr: string): bigint | undefined {
  const holder = maps.podByAddr.get(addr);
  return holder === undefined || holder === cookie || maps.pods.get(holder) === undefined ? undefined : holder;
}

/** Only our own entry: the address may have gone to a newer pod already. */
function forgetAddress(maps: Maps, cookie: bigint, addr: string): void {
  if (maps.podByAddr.get(addr) === cookie) maps.podByAddr.delete(addr);
}

function without(from: ReadonlySet<string>, others: ReadonlySet<string>): string[] {
  return [...from].filter((item) => !others.has(item));
}

/** The text that reading the map back gives. */
export function canonical(address: string): string {
  return formatAddress(parseAddress(address));
}
