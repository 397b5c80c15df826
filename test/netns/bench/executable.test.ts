import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { renderHtml } from '../../../src/bench/report/html.ts';
import { sampleReport } from '../../support/bench-report.ts';

const CULVERT = new URL('../../../build/culvert', import.meta.url).pathname;
let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'cvt-report-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

it('the executable draws the same page as the sources: vega is among its assets', async () => {
  const report = sampleReport({ tunnels: ['none'], rounds: 5, metrics: ['connections', 'round-trip-p50-8', 'add'] });
  const stored = join(dir, 'report.json');
  writeFileSync(stored, JSON.stringify(report));
  const { stdout } = await promisify(execFile)(CULVERT, ['bench', '--from', stored, '--out', dir, '-o', 'json']);
  expect(JSON.parse(stdout)).toEqual(report);
  expect(readFileSync(join(dir, 'report.html'), 'utf8')).toBe(await renderHtml(report));
});
