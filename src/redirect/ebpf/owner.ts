/** Whose pins these are: instance and ABI, in the pinned map `owner`. A stranger's are read, never written. */
import { CulvertError } from '../../base/errors.ts';
import { ABI, maps as layout, TypedMap, type Owner } from '../../maps/index.ts';
import { native } from '../../sys/native.ts';
import { openPin } from './cgroup-links.ts';
import type { Pins } from './pins.ts';

export function ownerOf(instance: bigint, version: string): Owner {
  return { instance, abi: ABI, version: version.slice(0, 47) };
}

/** @throws CulvertError PIN_FOREIGN; MAP_LAYOUT for an ABI that this version does not speak */
export function checkOwner(pins: Pins, instance: bigint): void {
  const owner = readOwner(pins);
  if (owner?.instance !== instance) {
    throw new CulvertError(
      'PIN_FOREIGN',
      `use pins in ${pins.dir}: they belong to ${owner === undefined ? 'somebody else' : `instance ${owner.instance.toString(16)}`}, this is instance ${instance.toString(16)}`,
    );
  }
  if (owner.abi !== ABI) {
    throw new CulvertError(
      'MAP_LAYOUT',
      `use pins in ${pins.dir}: version ${owner.version} wrote them with ABI ${owner.abi}, this version has ABI ${ABI}`,
    );
  }
}

/** undefined when the maps are not Culvert's */
export function readOwner(pins: Pins): Owner | undefined {
  const fd = openPin(`${pins.maps}/owner`);
  if (fd === undefined) return undefined;
  try {
    const info = native.bpfInfo(fd);
    if (info.keySize !== layout.owner.keySize || info.valueSize !== layout.owner.valueSize) return undefined;
    return new TypedMap('owner', fd).get(0);
  } finally {
    native.closeFd(fd);
  }
}
