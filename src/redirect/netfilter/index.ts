/** Redirect by rules of netfilter, as Istio's own CNI programs them: see rules.ts (what), driver.ts (when), and the two backends (how). */
import { join } from 'node:path';
import { CulvertError, describe, isCulvert } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { Slots } from '../../base/slots.ts';
import { Netns } from '../../sys/netns.ts';
import { openByCookie } from '../../sys/netns-search.ts';
import type { DatapathState, RedirectDriver } from '../driver.ts';
import { unshelter } from '../istio-cni/shelter.ts';
import type { Backend } from './backend.ts';
import { NetfilterDriver } from './driver.ts';
import { siteOf, type Enrolled } from './enrolled.ts';
import { openBackend, type NetfilterKind } from './open-backend.ts';
import { Records, type NetnsRecord } from './records.ts';
import { inspect } from './settings.ts';

export type { NetfilterKind } from './open-backend.ts';

export interface NetfilterOptions {
  kind: NetfilterKind;
  /** path of the node's netns */
  nodeNetns: string;
  /** directory of this kind alone, on a file system that goes with the machine's power: what is enrolled now */
  stateDir: string;
  /** a procfs of the host's pid namespace; default "/proc" */
  procRoot?: string;
  log: Logger;
}

export interface NetfilterProbe {
  usable: boolean;
  /** why not, with the package that is missing; or what does not work of it */
  reasons: string[];
}

/** Pods that are looked at together at the start. */
const AT_ONCE = 4;

const MARK_ALONE =
  'mark 0x539 alone proves the tunnel: a process with CAP_NET_RAW in a pod can set it, and so pass by the mesh or listen in its place';

/** Changes nothing that stays. Never throws. */
export async function probeNetfilter(
  kind: NetfilterKind,
  o: Pick<NetfilterOptions, 'nodeNetns' | 'stateDir' | 'log'>,
): Promise<NetfilterProbe> {
  let node: Netns | undefined;
  try {
    node = Netns.open(o.nodeNetns);
    const backend = await openBackend(kind, node.fd, o.stateDir, o.log);
    return Array.isArray(backend) ? { usable: false, reasons: backend } : { usable: true, reasons: backend.reasons };
  } catch (error) {
    return { usable: false, reasons: [`${kind}: ${describe(error)}`] };
  } finally {
    node?.close();
  }
}

/**
 * Takes up what earlier runs of the agent left, and sweeps records whose netns is gone.
 * @throws CulvertError KERNEL_UNSUPPORTED with every reason; SYSTEM
 */
export async function createNetfilterDriver(o: NetfilterOptions): Promise<RedirectDriver> {
  const node = Netns.open(o.nodeNetns);
  try {
    const opened = await openBackend(o.kind, node.fd, o.stateDir, o.log);
    if (Array.isArray(opened)) throw new CulvertError('KERNEL_UNSUPPORTED', `use ${o.kind}: ${opened.join('; ')}`);
    const { backend } = opened;
    const records = new Records(join(o.stateDir, 'netns'));
    const enrolled = await takeUp(records, backend, o);
    const driver = new NetfilterDriver({ backend, node, records, enrolled, reasons: [MARK_ALONE, ...opened.reasons], log: o.log });
    await driver.start();
    o.log.info({ kind: o.kind, version: backend.version, pods: enrolled.size }, 'redirect by netfilter');
    return driver;
  } catch (error) {
    node.close();
    throw error;
  }
}

/** True when pods of an earlier run have rules of this kind. */
export function servesNetfilter({ stateDir, log }: Pick<NetfilterOptions, 'stateDir' | 'log'>): boolean {
  return new Records(join(stateDir, 'netns')).all(log).length > 0;
}

/**
 * Every pod of this kind out of the redirect, then the node's part off. Works without a driver, also for an operator whose agent is long
 * gone; may be repeated. A driver of this kind must be closed before.
 * @returns "namespace/name" of what was behind the redirect
 * @throws CulvertError SYSTEM naming each netns that could not be put back
 */
export async function uninstallNetfilter(o: NetfilterOptions & { deadlineMs: number }): Promise<string[]> {
  const node = Netns.open(o.nodeNetns);
  try {
    const opened = await openBackend(o.kind, node.fd, o.stateDir, o.log);
    // where it cannot be used, it has put nothing
    if (Array.isArray(opened)) return [];
    const { backend } = opened;
    const records = new Records(join(o.stateDir, 'netns'));
    const enrolled = await takeUp(records, backend, o);
    const driver = new NetfilterDriver({ backend, node: Netns.open(o.nodeNetns), records, enrolled, reasons: [], log: o.log });
    const pods: string[] = [];
    const faults: string[] = [];
    for (const { cookie, namespace, name } of driver.snapshot()) {
      try {
        const netns = enrolled.get(cookie)?.netns;
        if (netns !== undefined) unshelter(netns); // an agent that keeps istio-cni's rules has done that to every pod
        await driver.remove(cookie, 0, o.deadlineMs);
        pods.push(`${namespace}/${name}`);
      } catch (error) {
        faults.push(`netns of ${namespace}/${name}: ${describe(error)}`);
      }
    }
    driver.close();
    if (faults.length > 0) throw new CulvertError('SYSTEM', `take off ${o.kind}: ${faults.join('; ')}; try again`);
    await backend.clearNode(node.fd);
    return pods;
  } finally {
    node.close();
  }
}

async function takeUp(records: Records, backend: Backend, o: NetfilterOptions): Promise<Map<bigint, Enrolled>> {
  const enrolled = new Map<bigint, Enrolled>();
  const slots = new Slots(AT_ONCE);
  const take = async (record: NetnsRecord): Promise<void> => {
    const cookie = BigInt(record.cookie);
    const netns = find(record, o.procRoot ?? '/proc');
    if (netns === undefined) {
      o.log.info({ pod: `${record.namespace}/${record.name}`, cookie: record.cookie }, 'record of a netns that is gone removed');
      records.remove(cookie);
      return;
    }
    const { families } = inspect(netns.fd);
    const entry: Enrolled = { record, netns, families, stage: 'none', turn: Promise.resolve(), leaving: undefined };
    entry.stage = await stageOf(entry, backend, o.log);
    enrolled.set(cookie, entry);
  };
  await Promise.all(records.all(o.log).map((record) => slots.run(() => take(record))));
  return enrolled;
}

/** A pod whose rules cannot be read, for what it has put beside them itself, is no trouble of the others: taken for captured. */
async function stageOf(entry: Enrolled, backend: Backend, log: Logger): Promise<DatapathState> {
  try {
    const { stage } = await backend.read(siteOf(entry));
    // its record and its addresses in the node's set are there: whoever does not want the pod any more must see it to take it off
    return stage === 'none' ? 'prepared' : stage;
  } catch (error) {
    const { namespace, name } = entry.record;
    log.error({ pod: `${namespace}/${name}`, error: describe(error) }, 'rules of a pod of an earlier run not read');
    return 'active';
  }
}

/** undefined: it is gone */
function find({ cookie, netnsPath }: NetnsRecord, procRoot: string): Netns | undefined {
  if (netnsPath !== '') {
    try {
      const netns = Netns.open(netnsPath);
      if (String(netns.cookie) === cookie) return netns;
      netns.close();
    } catch (error) {
      if (!isCulvert(error, 'NETNS_GONE')) throw error;
    }
  }
  return openByCookie(BigInt(cookie), procRoot);
}
