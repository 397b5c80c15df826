import { describe, expect, it } from 'vitest';
import { StateSnapshot } from '../../../src/state/snapshot.ts';
import type { Service, Workload } from '../../../src/state/workload.ts';
import { isRecursiveOutbound } from '../../../src/tunnel/ports.ts';
import { RoundRobin, routeOutbound } from '../../../src/tunnel/route.ts';
import { workload } from '../../support/tunnel/loopback.ts';

const client = workload('client', '10.0.0.1');
const web1 = workload('web-1', '10.0.0.2', { ips: ['10.0.0.2', 'fd00::2'] });
const web2 = workload('web-2', '10.0.0.3', { protocol: 'TCP' });
const sick = workload('web-3', '10.0.0.4', { healthy: false });
const ports = new Map([[80, 8080]]);
const service = (workloads: Workload[], change: Partial<Service> = {}): Service => ({
  namespace: 'shop',
  name: 'web',
  hostname: 'web.shop.svc.cluster.local',
  vips: ['10.96.0.1', 'fd00:96::1'],
  ports,
  endpoints: workloads.map((one) => ({ workload: one, ports })),
  ...change,
});
const route = (services: Service[], ip: string, port: number, turns = new RoundRobin()) =>
  routeOutbound(new StateSnapshot('cluster.local', [client, web1, web2, sick], services), client, { ip, port }, turns);

describe('outbound route', () => {
  it('sends what a captured workload gets through HBONE', () => {
    expect(route([], '10.0.0.2', 8080)).toMatchObject({
      kind: 'hbone',
      hop: { ip: '10.0.0.2', port: 15008 },
      target: { ip: '10.0.0.2', port: 8080 },
      service: undefined,
    });
    expect(route([], 'fd00::2', 8080)).toMatchObject({ kind: 'hbone', hop: { ip: 'fd00::2', port: 15008 } });
  });

  it('passes on what is not captured, or not known', () => {
    expect(route([], '10.0.0.3', 8080)).toMatchObject({ kind: 'tcp', target: { ip: '10.0.0.3', port: 8080 }, workload: { name: 'web-2' } });
    expect(route([], '1.1.1.1', 443)).toMatchObject({ kind: 'tcp', workload: undefined });
  });

  it('takes the endpoints of a service in turn, and never a sick one', () => {
    const turns = new RoundRobin();
    const names = Array.from({ length: 4 }, () => {
      const chosen = route([service([web1, web2, sick])], '10.96.0.1', 80, turns);
      return chosen.kind === 'none' ? 'none' : `${chosen.kind} ${chosen.workload?.name ?? ''} ${String(chosen.target.port)}`;
    });
    expect(names).toEqual(['hbone web-1 8080', 'tcp web-2 8080', 'hbone web-1 8080', 'tcp web-2 8080']);
  });

  it('prefers the family that was dialled, and takes the other when there is no choice', () => {
    expect(route([service([web1])], 'fd00:96::1', 80)).toMatchObject({ hop: { ip: 'fd00::2' } });
    expect(route([service([web1])], '10.96.0.1', 80)).toMatchObject({ hop: { ip: '10.0.0.2' } });
    expect(route([service([web2])], 'fd00:96::1', 80)).toMatchObject({ target: { ip: '10.0.0.3' } });
  });

  it('says so when a known service has nobody, or not this port', () => {
    expect(route([service([])], '10.96.0.1', 80)).toMatchObject({ kind: 'none' });
    expect(route([service([sick])], '10.96.0.1', 80)).toMatchObject({ kind: 'none' });
    expect(route([service([web1])], '10.96.0.1', 81)).toMatchObject({ kind: 'none' });
    expect(route([service([workload('new', '', { ips: [] })])], '10.96.0.1', 80)).toMatchObject({ kind: 'none' });
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
