/** The files of an agent whose node is given up: sockets, what it knew of sandboxes, what the plugin decides by, its instance id. */
import { rmdirSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { CulvertError, isSystem } from '../base/errors.ts';
import { paths } from './api.ts';
import { instancePath } from './instance.ts';

export interface Places {
  runDir: string;
  stateDir: string;
  zdsSocket: string;
}

/**
 * Directories go when nothing of others is in them.
 * @param heir another agent has the ZDS socket by now
 * @throws SYSTEM
 */
export function removeFiles({ runDir, stateDir, zdsSocket }: Places, heir = false): void {
  const enrolment = paths.enrolment(stateDir);
  const ours = [
    ...[paths.cniSocket(runDir), paths.adminSocket(runDir), paths.attachments(runDir), `${runDir}/netfilter`, ...(heir ? [] : [zdsSocket])],
    ...[enrolment, `${enrolment}.tmp`, instancePath(stateDir)],
  ];
  for (const path of ours) {
    try {
      rmSync(path, { recursive: true, force: true });
    } catch (error) {
      throw new CulvertError('SYSTEM', `remove ${path}`, error);
    }
  }
  for (const directory of new Set([runDir, stateDir, dirname(zdsSocket)])) {
    try {
      rmdirSync(directory);
    } catch (error) {
      // not ours alone; or a mount of the container, which its kubelet keeps
      if (!['ENOENT', 'ENOTEMPTY', 'EEXIST', 'EBUSY', 'EROFS'].some((code) => isSystem(error, code)))
        throw new CulvertError('SYSTEM', `remove ${directory}`, error);
    }
  }
}
