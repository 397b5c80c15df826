import { describe, expect, it } from 'vitest';
import { renderTable } from '../../../../src/bench/report/table.ts';
import { sampleReport } from '../../../support/bench-report.ts';

describe('table of a report', () => {
  it('has a block for each tunnel, a row for each metric and a column for each scenario', async () => {
    const table = await renderTable(sampleReport());
    expect(table.match(/^Tunnel (none|builtin): /gm)).toHaveLength(2);
    expect(table).toMatch(/^ +direct +direct-2 +iptables +nftables +ebpf +geneve$/m);
    expect(table).toMatch(/^CPU per new connection +[\d.]+ +[\d.]+/m);
  });

  it('says in words where iptables is better, which cells are void and which cannot be', async () => {
    const table = await renderTable(sampleReport({ tunnels: ['builtin'] }));
    const add = table.split('\n').findLastIndex((line) => line.startsWith('CNI ADD'));
    expect(table.split('\n')[add + 2]).toMatch(/^ +iptables better/);
    expect(table).toContain('iptables is better in 1 (CNI ADD: ');
    expect(table).toMatch(/void \[\d\]/);
    expect(table).toMatch(/^\[\d\] 9 of 9 void: the counter of its rule did not move$/m);
    expect(table).toMatch(/^new connections .* n\/a \[1\]$/m);
    expect(table).toMatch(/^\[1\] n\/a: a tunnel inside the pod/m);
  });

  it('is plain text: no colour, no line that ends in spaces', async () => {
    const table = await renderTable(sampleReport());
    expect(table).not.toMatch(/\u001b| $/m);
  });

  it('warns last of what is not to be quoted', async () => {
    const report = { ...sampleReport({ tunnels: ['none'], rounds: 3 }), valid: false, invalidReasons: ['ebpf: no counter moved'] };
    const lines = (await renderTable(report)).trimEnd().split('\n').slice(-2);
    expect(lines[0]).toBe('This run is not valid: ebpf: no counter moved.');
    expect(lines[1]).toMatch(/^It has only 3 rounds/);
  });
});
