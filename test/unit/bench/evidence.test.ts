/** What of a tunnel's access log counts as a connection that a client's pod had through it. */
import { expect, test } from 'vitest';
import { connectionsIn } from '../../../src/bench/evidence.ts';

const line = (fields: Record<string, string>): string =>
  JSON.stringify({ 'src.workload': 'client-ebpf', direction: 'outbound', 'dst.addr': '10.0.0.2:15008', ...fields });
const hbone = { 'dst.hbone_addr': '10.0.0.2:8080' };

test('outbound ones of that pod, and where it is in the mesh those over HBONE only', () => {
  const log = [
    line(hbone),
    line(hbone),
    line({}),
    line({ ...hbone, direction: 'inbound' }),
    line({ ...hbone, 'src.workload': 'client-ebpf-2' }),
    '{"message":"something else"}',
    '',
  ].join('\n');
  expect(connectionsIn(log, 'client-ebpf', { hbone: true })).toBe(2);
  expect(connectionsIn(log, 'client-ebpf', { hbone: false })).toBe(3);
  expect(connectionsIn('', 'client-ebpf', { hbone: false })).toBe(0);
});
