/** The datapath's maps as one set of handles: from their pins, or from an object just loaded. */
import { existsSync } from 'node:fs';
import type { LoadedObject } from '../../addon/index.d.ts';
import { CulvertError } from '../base/errors.ts';
import { native } from '../sys/native.ts';
import { maps as layout, type MapName } from './layout.ts';
import { TypedMap, type TypedMapName } from './typed-map.ts';

export interface Maps {
  readonly pods: TypedMap<'pods'>;
  readonly identity: TypedMap<'identity'>;
  readonly own: TypedMap<'own'>;
  readonly listeners: TypedMap<'listeners'>;
  readonly generation: TypedMap<'generation'>;
  readonly inner: TypedMap<'inner'>;
  readonly exempt: TypedMap<'exempt'>;
  readonly podByAddr: TypedMap<'pod_by_addr'>;
  readonly counters: TypedMap<'counters'>;
  readonly tunnels: TypedMap<'tunnels'>;
  readonly kubelets: TypedMap<'kubelets'>;
  readonly trials: TypedMap<'trials'>;
  readonly nodeSources: TypedMap<'node_sources'>;
  readonly settings: TypedMap<'settings'>;
  readonly owner: TypedMap<'owner'>;
  /** the ring buffer; its records are read by decodeEvent */
  readonly events: { readonly fd: number };
  /** ends every handle, and closes the fds if they were opened from pins; those of a loaded object are closed with it, after this */
  close(): void;
  [Symbol.dispose](): void;
}

/** The maps that are pinned, by C name, which is also the pin's name. The socket storages live with their programs. */
export const pinnedMaps = (Object.keys(layout) as MapName[]).filter((name) => layout[name].type !== 'sk_storage');

/** Maps that came after the first version, whose pins lack them: opened from those they are empty. */
const LATER: readonly MapName[] = ['kubelets', 'trials', 'node_sources'];

/** @throws CulvertError SYSTEM with ENOENT when a pin is missing; MAP_LAYOUT when it is another version's map */
export function openPinnedMaps(dir: string): Maps {
  const fds = new Map<MapName, number>();
  const close = (): void => {
    for (const fd of fds.values()) native.closeFd(fd);
    fds.clear();
  };
  try {
    const absent = LATER.filter((name) => !existsSync(`${dir}/${name}`));
    for (const name of pinnedMaps) if (!absent.includes(name)) fds.set(name, get(`${dir}/${name}`));
    return handles(fds, close, absent);
  } catch (error) {
    close();
    throw error;
  }
}

/** One map of a pin directory, for who needs no other. */
class PinnedMap<N extends TypedMapName> extends TypedMap<N> {
  close(): void {
    this.retire();
    native.closeFd(this.fd);
  }
}

/** @throws as openPinnedMaps */
export function openPinnedMap<N extends TypedMapName>(dir: string, name: N): PinnedMap<N> {
  const map = new PinnedMap(name, get(`${dir}/${name}`));
  try {
    requireLayout(name, map.fd);
    return map;
  } catch (error) {
    map.close();
    throw error;
  }
}

/** @throws CulvertError MAP_LAYOUT when the object was built from other headers than this code */
export function mapsOf(loaded: LoadedObject): Maps {
  return handles(new Map(loaded.maps.map(({ name, fd }) => [name as MapName, fd])), () => undefined);
}

function get(path: string): number {
  try {
    return native.bpfGet(path);
  } catch (error) {
    throw new CulvertError('SYSTEM', `open pinned map ${path}`, error);
  }
}

function handles(fds: ReadonlyMap<MapName, number>, closeFds: () => void, absent: readonly MapName[] = []): Maps {
  const fd = (name: MapName): number => {
    const found = fds.get(name);
    if (found === undefined) throw new CulvertError('MAP_LAYOUT', `open map ${name}: the object has none`);
    requireLayout(name, found);
    return found;
  };
  const open: { retire(): void }[] = [];
  const typed = <N extends TypedMapName>(name: N): TypedMap<N> => {
    const map = new TypedMap(name, absent.includes(name) ? undefined : fd(name));
    open.push(map);
    return map;
  };
  const close = (): void => {
    for (const map of open) map.retire();
    closeFds();
  };
  return {
    pods: typed('pods'),
    identity: typed('identity'),
    own: typed('own'),
    listeners: typed('listeners'),
    generation: typed('generation'),
    inner: typed('inner'),
    exempt: typed('exempt'),
    podByAddr: typed('pod_by_addr'),
    counters: typed('counters'),
    tunnels: typed('tunnels'),
    kubelets: typed('kubelets'),
    trials: typed('trials'),
    nodeSources: typed('node_sources'),
    settings: typed('settings'),
    owner: typed('owner'),
    events: { fd: fd('events') },
    close,
    [Symbol.dispose]: close,
  };
}

function requireLayout(name: MapName, fd: number): void {
  const want = layout[name];
  const have = native.bpfInfo(fd);
  const wrong = [
    ...(have.type === want.typeNumber ? [] : [`type ${have.type}, not ${want.typeNumber} (${want.type})`]),
    ...(have.keySize === want.keySize ? [] : [`keys of ${have.keySize} bytes, not ${want.keySize}`]),
    ...(have.valueSize === want.valueSize ? [] : [`values of ${have.valueSize} bytes, not ${want.valueSize}`]),
  ];
  if (wrong.length > 0)
    throw new CulvertError('MAP_LAYOUT', `open map ${name}: it has ${wrong.join(', ')}; it is of another version of Culvert`);
}
