/** Control of a lab: objects out of the mesh file, tokens and the CA out of files beside it. One process, which is its own leader. */
import type { Logger } from '../../base/log.ts';
import { createFileSource } from '../../sources/file/source.ts';
import { DirectoryRoots } from '../ca/directory-roots.ts';
import { TokenFileAuthenticator } from '../ca/token-file.ts';
import type { FileOrigin } from '../config.ts';
import type { Platform } from '../platform.ts';
import { createFileCluster } from './cluster.ts';

/** @throws CERTIFICATE, CONFIG_INVALID when a file cannot be used */
export async function openFiles({ meshFile, caDir, tokens }: FileOrigin, logger: (scope: string) => Logger): Promise<Platform> {
  const roots = await DirectoryRoots.open({ dir: caDir, log: logger('ca') });
  return {
    cluster: createFileCluster(createFileSource({ meshFile })),
    authenticator: await TokenFileAuthenticator.open(tokens, logger('tokens')),
    roots,
    isLeader: () => true,
    begin: () => undefined,
    report: () => undefined, // a mesh file holds no policies
    close: () => {
      roots.close();
      return Promise.resolve();
    },
  };
}
