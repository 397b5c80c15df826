import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ClientPorts } from '../../../src/tunnel/client-ports.ts';

function round(ports: ClientPorts): Set<number> {
  return new Set(Array.from({ length: ports.size }, () => ports.next()));
}

describe("source ports in the client's name", () => {
  it("leave the ephemeral range and the tunnel's own ports to others, and come in turn", () => {
    const ports = new ClientPorts({ from: 32_768, to: 60_999 });
    const seen = round(ports);
    expect(seen.size).toBe(ports.size);
    expect(seen.size).toBeGreaterThan(26_000);
    for (const port of seen) expect(port >= 10_240 && port <= 65_535 && (port < 32_768 || port > 60_999)).toBe(true);
    for (const door of [15_001, 15_006, 15_008, 15_053]) expect(seen.has(door)).toBe(false);
  });

  it('are never few, whatever the range', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 65_535 }), fc.integer({ min: 1, max: 65_535 }), (a, b) => {
        const ephemeral = { from: Math.min(a, b), to: Math.max(a, b) };
        const ports = new ClientPorts(ephemeral);
        expect(ports.size).toBeGreaterThanOrEqual(4096);
        const port = ports.next();
        expect(port >= 10_240 && port <= 65_535).toBe(true);
      }),
      { numRuns: 40 },
    );
  });
});
