/** The Grafana dashboard asks for nothing that no agent exports: a panel of a name or label that changed would be empty, silently. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Gauges, type Observed } from '../../../src/agent/metrics/gauges.ts';
import { AgentMetrics } from '../../../src/agent/metrics/metrics.ts';

interface Panel {
  id: number;
  title: string;
  type: string;
  description?: string;
  targets?: { expr: string; legendFormat: string }[];
  gridPos: { x: number; y: number; w: number; h: number };
}

const dashboard = JSON.parse(readFileSync(join(import.meta.dirname, '../../../deploy/dashboard.json'), 'utf8')) as { panels: Panel[] };
const queries = dashboard.panels.flatMap(({ title, targets = [] }) => targets.map((target) => ({ title, ...target })));

/** Words of PromQL that are no metrics; a function is told by its bracket. */
const WORDS = new Set(['or', 'and', 'unless', 'on', 'ignoring', 'group_left', 'group_right', 'bool', 'offset']);

/** What one query asks for. */
function asked(expr: string): { metrics: string[]; labels: string[] } {
  const grouping = /\b(?:by|without) \(([^)]*)\)/g;
  const labels = [...expr.matchAll(grouping)].flatMap(([, list = '']) => list.split(',').map((label) => label.trim()));
  const matchers = /\{([^}]*)\}/g;
  labels.push(
    ...[...expr.matchAll(matchers)].flatMap(([, list = '']) =>
      [...list.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)].map(([, label = '']) => label),
    ),
  );
  const bare = expr
    .replace(grouping, '')
    .replace(matchers, '')
    .replace(/\[[^\]]*\]/g, '');
  const metrics = [...bare.matchAll(/[a-zA-Z_:][\w:]*(?!\w*\s*\()/g)].map(([name]) => name).filter((name) => !WORDS.has(name));
  return { metrics, labels };
}

/** Labels of every series that an agent has, by the series' name; "le" of histograms and Prometheus' own included. */
function exported(): Map<string, Set<string>> {
  const { registry } = new AgentMetrics('test');
  const driver: Observed['driver'] = { tallies: () => [], readAll: () => ({ tallies: [], maps: [] }) };
  const installation = { installs: {}, ready: true } as Observed['installation'];
  // the rest is looked at by a scrape only
  new Gauges(registry, { driver, installation, perPod: true } as Observed);
  const series = new Map<string, Set<string>>();
  for (const { name, type } of registry.getMetricsAsArray() as unknown as { name: string; type: unknown }[]) {
    const { labelNames = [] } = registry.getSingleMetric(name) as unknown as { labelNames?: string[] };
    const labels = new Set([...labelNames, 'instance']);
    series.set(name, labels);
    if (type !== 'histogram') continue;
    series.set(`${name}_bucket`, new Set([...labels, 'le']));
    for (const end of ['_sum', '_count']) series.set(`${name}${end}`, labels);
  }
  return series;
}

describe('the dashboard', () => {
  const series = exported();

  it.each(queries)('asks in "$title" for what there is: $expr', ({ expr, legendFormat }) => {
    const { metrics, labels } = asked(expr);
    expect(metrics.length).toBeGreaterThan(0);
    for (const metric of metrics) {
      expect([...series.keys()]).toContain(metric);
      expect([...series.get(metric)!]).toEqual(expect.arrayContaining(labels));
    }
    const shown = [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => label);
    expect(labels, 'what the legend names is what the query keeps').toEqual(expect.arrayContaining(shown));
  });

  it('shows everything that is exported, but what would be a line per pod', () => {
    const shown = new Set(queries.flatMap(({ expr }) => asked(expr).metrics.map((name) => name.replace(/_(bucket|sum|count)$/, ''))));
    const ours = [...series.keys()].filter((name) => !/^(process|nodejs)_|_(bucket|sum|count)$/.test(name));
    expect(ours.filter((name) => !shown.has(name))).toEqual(['culvert_pod_connections_total']);
  });

  it('has panels side by side, each with a sentence', () => {
    const { panels } = dashboard;
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    expect(panels.filter(({ type, description = '' }) => type !== 'row' && description === '')).toEqual([]);
    const cells = panels.flatMap(({ title, gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, i) => ({ title, cell: `${x + (i % w)},${y + Math.floor(i / w)}` })),
    );
    expect(new Set(cells.map(({ cell }) => cell)).size).toBe(cells.length);
    expect(Math.max(...panels.map(({ gridPos: { x, w } }) => x + w))).toBe(24);
  });
});
