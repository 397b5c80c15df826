/** Typed handles on the datapath's maps. Layout and names come from the BPF object; nothing else in TypeScript knows bytes. */
export { formatAddress, formatEnd, parseAddress } from './address.ts';
export { decode, encode } from './codec.ts';
export { countersOf, countsOf, deleteCounters, isSecondLook, summarize, totalOf } from './counters.ts';
export { dumpMaps, type MapDump, type Row } from './dump.ts';
export { decodeEvent, type Event } from './events.ts';
export * from './layout.ts';
export { mapsOf, openPinnedMap, openPinnedMaps, pinnedMaps, type Maps } from './open.ts';
export { reasonOf, reasons } from './reasons.ts';
export { TypedMap, type TypedMapName } from './typed-map.ts';
