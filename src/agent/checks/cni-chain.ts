/** What a runtime would do for the next pod: which configuration it takes, whether we are in it, and whether our executable is there. */
import { createReadStream } from 'node:fs';
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { readConfDirectory } from '../../install/conf-directory.ts';
import { find, PLUGIN_TYPE } from '../../install/conflist.ts';
import { faultsOf, type ConfFile } from '../../install/network.ts';
import { Fault } from './check.ts';

export interface ChainView {
  cniBinDir: string;
  cniConfDir: string;
  /** the agent's; the entry must lead to it */
  runDir: string;
  /** what should have been installed; undefined: it is not known here */
  plugin: string | undefined;
  /** false: a network of our own, that a meta plugin calls by its name */
  chained: boolean;
}

const INSTALL = '"culvert install", or installPlugin of the agent; its log says why it did not';

export async function lookAtChain({ cniBinDir, cniConfDir, runDir, plugin, chained }: ChainView): Promise<string> {
  const files = (await readConfDirectory(cniConfDir)).filter((file): file is ConfFile => 'text' in file && faultsOf(file).length === 0);
  const taken = chained ? files[0] : files.find((file) => find(file) !== undefined);
  if (taken === undefined)
    throw new Fault(
      `there is no network configuration in ${cniConfDir}`,
      'install the network of the cluster, or name its directory (cniConfDir)',
    );
  const entry = find(taken);
  if (entry === undefined) {
    const other = files.find((file) => find(file) !== undefined);
    const where = other === undefined ? '' : `; it is in ${other.name}, which comes later`;
    throw new Fault(`runtimes take ${taken.name}, and ${PLUGIN_TYPE} is not in it${where}`, INSTALL);
  }
  if (entry['runDir'] !== runDir)
    throw new Fault(`the entry in ${taken.name} leads to ${String(entry['runDir'])}, this agent serves ${runDir}`, INSTALL);
  const path = join(cniBinDir, PLUGIN_TYPE);
  const present = await stat(path).catch(() => undefined);
  if (present?.isFile() !== true || (present.mode & 0o111) === 0) throw new Fault(`${path} is missing, or not executable`, INSTALL);
  if (plugin !== undefined && (await hashOf(plugin)) !== (await hashOf(path)))
    throw new Fault(`${path} is not the executable of this version (${plugin})`, INSTALL);
  return `${taken.name} has our entry, ${path} is ${plugin === undefined ? 'there' : "this version's"}`;
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}
