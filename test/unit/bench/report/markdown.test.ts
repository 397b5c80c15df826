import { describe, expect, it } from 'vitest';
import { quantity } from '../../../../src/bench/report/format.ts';
import { renderMarkdown } from '../../../../src/bench/report/markdown.ts';
import { sampleReport } from '../../../support/bench-report.ts';

describe('tables for the documentation', () => {
  it('have every median of the report in its row and column', () => {
    const report = sampleReport({ tunnels: ['none'] });
    const lines = renderMarkdown(report).split('\n');
    const head = lines.find((line) => line.startsWith('| metric'))!.split(' | ');
    const row = lines.find((line) => line.startsWith('| CPU per new connection | µs'))!.split(' | ');
    for (const { scenario, median } of report.cells.filter(({ metric }) => metric === 'connection-cpu')) {
      expect(row[head.findIndex((name) => name.includes(scenario) && name.replace(' |', '') === scenario)]).toMatch(
        new RegExp(`^${quantity(median)} \\(`),
      );
    }
    const widths = lines.filter((line) => line.startsWith('| ')).map((line) => line.replaceAll('\\|', '').split('|').length);
    expect(new Set(widths).size).toBeLessThanOrEqual(3); // medians, ratios, profiles: each table has one width
  });

  it('say where iptables is better, what is void and what cannot be', () => {
    const text = renderMarkdown(sampleReport({ tunnels: ['builtin'] }));
    expect(text).toMatch(/^\| CNI ADD .*\*\*iptables better\*\*/m);
    expect(text).toContain('**void** (');
    expect(text).toMatch(/^\d\. n\/a: a tunnel inside the pod/m);
  });

  it('are not broken by what names contain', () => {
    const text = renderMarkdown(sampleReport({ tunnels: ['none'], hostile: '|<script>\n# x' }));
    expect(text).not.toContain('<script>');
    expect(text).not.toMatch(/^# x/m);
  });
});
