/** The lab's address plan. Every lab has the same one: their namespaces never meet. */

/** `index` counts nodes from 1 and is at most 250. */
export interface NodeAddresses {
  v4: string;
  v6: string;
  podRange4: string;
  podRange6: string;
}

export const fabricPrefix = { v4: 24, v6: 64 };

export function nodeAddresses(index: number): NodeAddresses {
  const hex = index.toString(16);
  return { v4: `172.30.0.${index}`, v6: `fd00:30::${hex}`, podRange4: `10.244.${index}.0/24`, podRange6: `fd00:244:${hex}::/64` };
}

/** Virtual addresses of the n-th service, counted from 0; at most 240. Routed nowhere: only the tunnel knows them. */
export function serviceAddresses(index: number): string[] {
  const host = index + 10;
  return [`10.96.0.${host}`, `fd00:96::${host.toString(16)}`];
}
