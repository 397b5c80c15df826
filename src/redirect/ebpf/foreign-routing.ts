/**
 * Routing of somebody else's that captured packets meet before ours: a policy rule that comes earlier, or another route in table 100.
 * Nothing of ours is missing then, so the watch has nothing to put back. Plugins for several interfaces make such rules; an app with
 * NET_ADMIN can.
 */
import { wire } from '../../maps/index.ts';
import type { Route, Rule } from '../../sys/native.ts';
import type { Netns } from '../../sys/netns.ts';
import { shelters } from '../istio-cni/shelter.ts';

const LOCAL_TABLE = 255;
const FAMILIES = [4, 6] as const;

/** @throws CulvertError SYSTEM when the netns cannot be read */
export function routingWarnings(netns: Netns): string[] {
  return FAMILIES.flatMap((family) => {
    const earlier = earlierRules(netns.run({ op: 'rules', family }));
    const routes = earlier === undefined ? [] : netns.run({ op: 'routes', family, table: wire.ROUTE_TABLE }).filter((r) => !isOurs(r));
    return [
      ...(earlier ?? []).map(
        ({ pref }) =>
          `ip rule ${pref} of IPv${family} comes before the mesh's: what it catches of the app's connections leaves past the tunnel; ` +
          `put it behind preference ${wire.RULE_PREF_PROHIBIT}`,
      ),
      ...routes.map(
        ({ destination }) =>
          `route ${destination} of IPv${family} in table ${wire.ROUTE_TABLE} is not the mesh's: the app's connections to it leave past the ` +
          'tunnel; use another table',
      ),
    ];
  });
}

/** In the order in which they are asked; undefined: ours is not there (a kernel without this family, or the watch is about to put it back). */
function earlierRules(rules: Rule[]): Rule[] | undefined {
  const ours = rules.findIndex((r) => r.pref === wire.RULE_PREF && r.mark === wire.MARK_LOCAL && r.table === wire.ROUTE_TABLE);
  if (ours < 0) return undefined;
  return rules.slice(0, ours).filter((r) => r.table !== LOCAL_TABLE && !shelters(r) && (wire.MARK_LOCAL & r.mask) === r.mark);
}

function isOurs({ type, destination }: Route): boolean {
  return type === 'local' && destination === 'default';
}
