import { describe, expect, it } from 'vitest';
import { StateStore } from '../../../src/state/store.ts';
import type { Service, Workload } from '../../../src/state/workload.ts';
import { isRecursiveOutbound } from '../../../src/tunnel/ports.ts';
import { RoundRobin, routeOutbound } from '../../../src/tunnel/route.ts';
import { endpointOf, service, workload } from '../../support/state.ts';

const client = workload('client', '10.0.0.1');
const web1 = workload('web-1', '10.0.0.2', { ips: ['10.0.0.2', 'fd00::2'], ...endpointOf() });
const web2 = workload('web-2', '10.0.0.3', { protocol: 'TCP', ...endpointOf() });
const sick = workload('web-3', '10.0.0.4', { healthy: false, ...endpointOf() });
const web = (change: Partial<Service> = {}) => service({ vips: ['10.96.0.1', 'fd00:96::1'], ...change });

function route(workloads: Workload[], services: Service[], ip: string, port: number, turns = new RoundRobin()) {
  const state = new StateStore();
  state.replace({ workloads: [client, ...workloads], services, policies: [] });
  return routeOutbound(state, client, { ip, port }, turns);
}

describe('outbound route', () => {
  it('sends what a captured workload gets through HBONE', () => {
    expect(route([web1], [], '10.0.0.2', 8080)).toMatchObject({
      kind: 'hbone',
      hop: { ip: '10.0.0.2', port: 15008 },
      target: { ip: '10.0.0.2', port: 8080 },
      service: undefined,
    });
    expect(route([web1], [], 'fd00::2', 8080)).toMatchObject({ kind: 'hbone', hop: { ip: 'fd00::2', port: 15008 } });
  });

  it('passes on what is not captured, not known, or of another network', () => {
    expect(route([web2], [], '10.0.0.3', 8080)).toMatchObject({
      kind: 'tcp',
      target: { ip: '10.0.0.3', port: 8080 },
      workload: { name: 'web-2' },
    });
    expect(route([], [], '1.1.1.1', 443)).toMatchObject({ kind: 'tcp', workload: undefined });
    expect(route([{ ...web1, network: 'far' }], [], '10.0.0.2', 8080)).toMatchObject({ kind: 'tcp', workload: undefined });
  });

  it('takes the endpoints of a service in turn, and never a sick one', () => {
    const turns = new RoundRobin();
    const names = Array.from({ length: 4 }, () => {
      const chosen = route([web1, web2, sick], [web()], '10.96.0.1', 80, turns);
      return chosen.kind === 'none' ? 'none' : `${chosen.kind} ${chosen.workload?.name ?? ''} ${String(chosen.target.port)}`;
    });
    expect(names).toEqual(['hbone web-1 8080', 'tcp web-2 8080', 'hbone web-1 8080', 'tcp web-2 8080']);
  });

  it('prefers the family that was dialled, and takes the other when there is no choice', () => {
    expect(route([web1], [web()], 'fd00:96::1', 80)).toMatchObject({ hop: { ip: 'fd00::2' } });
    expect(route([web1], [web()], '10.96.0.1', 80)).toMatchObject({ hop: { ip: '10.0.0.2' } });
    expect(route([web2], [web()], 'fd00:96::1', 80)).toMatchObject({ target: { ip: '10.0.0.3' } });
  });

  it('takes a port that only some endpoints have from those alone', () => {
    const named = workload('named', '10.0.0.5', endpointOf(undefined, new Map([[80, 9090]])));
    const turns = new RoundRobin();
    const ports = [1, 2].map(() => route([web1, named], [web({ ports: new Map([[80, 0]]) })], '10.96.0.1', 80, turns));
    expect(ports).toMatchObject([{ target: { port: 9090 } }, { target: { port: 8080 } }]);
    const without = workload('without', '10.0.0.6', endpointOf(undefined, new Map()));
    expect(route([without], [web({ ports: new Map([[80, 0]]) })], '10.96.0.1', 80)).toMatchObject({ kind: 'none' });
    expect(route([without], [web()], '10.96.0.1', 80)).toMatchObject({ target: { port: 8080 } });
  });

  it('says so when a known service has nobody, or not this port', () => {
    expect(route([], [web()], '10.96.0.1', 80)).toMatchObject({ kind: 'none' });
    expect(route([sick], [web()], '10.96.0.1', 80)).toMatchObject({ kind: 'none' });
    expect(route([web1], [web()], '10.96.0.1', 81)).toMatchObject({ kind: 'none' });
    expect(route([{ ...web1, ips: [] }], [web()], '10.96.0.1', 80)).toMatchObject({ kind: 'none' });
    expect(route([{ ...web1, network: 'far' }], [web()], '10.96.0.1', 80)).toMatchObject({ kind: 'none' });
  });
});

describe('recursive calls', () => {
  it.each([
    ['127.0.0.1', 15001, true],
    ['::1', 15008, true],
    ['127.0.0.1', 15053, false],
    ['10.0.0.1', 15001, false],
    ['127.0.0.1', 80, false],
  ])('%s:%d is %s', (ip, port, expected) => {
    expect(isRecursiveOutbound({ ip, port })).toBe(expected);
  });
});
