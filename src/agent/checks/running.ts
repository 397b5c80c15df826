/** What only a running agent knows: its tunnel, its source, and pods that are not served as they should be. */
import { reason, summary } from '../../enrol/registry.ts';
import { warningsOf, type Known } from '../answers.ts';
import { Fault } from './check.ts';

const NAMED = 5;

export function lookAtTunnel({ zds, config }: Pick<Known, 'zds' | 'config'>): string {
  const connections = zds.connections();
  if (connections.length > 0)
    return `${connections.length} connected, since ${connections.map(({ since }) => since.toISOString()).join(', ')}`;
  throw new Fault(
    'no tunnel is connected: enrolled pods are refused, others stay pending',
    config.tunnel === 'builtin'
      ? 'look at the log of "culvert ztunnel" on this node'
      : "look at the log of this node's ztunnel, and whether it mounts the directory of the ZDS socket",
  );
}

export function lookAtSource({ source }: Pick<Known, 'source'>): string {
  if (source.synced()) return `${source.kind}, synced`;
  throw new Fault(`${source.kind} has not said yet which pods there are`, 'the log of the agent names the fault');
}

export function lookAtDriver({ driver }: Pick<Known, 'driver'>): string {
  return driver.reasons.length === 0 ? driver.name : `${driver.name}; ${driver.reasons.join('; ')}`;
}

export function lookAtPods(known: Pick<Known, 'reconciler' | 'datapathWarnings'>): string {
  const entries = known.reconciler.registry.all().filter(({ record }) => record !== undefined);
  const troubled = entries.flatMap((entry) => {
    const { namespace, name } = entry.pod.subject;
    const why =
      summary(entry) === 'pending'
        ? [reason(entry)]
        : [...(entry.pod.error === undefined ? [] : [entry.pod.error.message]), ...warningsOf(known, entry)];
    return why.map((text) => `${namespace}/${name}: ${text}`);
  });
  if (troubled.length === 0) return `${entries.length} pods, ${entries.filter((entry) => summary(entry) === 'enrolled').length} enrolled`;
  const more = troubled.length > NAMED ? `; and ${troubled.length - NAMED} more` : '';
  throw new Fault(
    `${troubled.slice(0, NAMED).join('; ')}${more}`,
    '"culvert pods" lists them all; docs/troubleshooting.md says what the reasons mean',
  );
}
