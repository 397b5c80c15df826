import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { reportSchema } from '../../../../src/bench/report/schema.ts';
import { redraw, writeReport } from '../../../../src/bench/report/stored.ts';
import { sampleReport } from '../../../support/bench-report.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'cvt-report-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

describe('a stored report', () => {
  it('comes back as it was, and draws the same page again elsewhere', async () => {
    const report = sampleReport({ tunnels: ['none'], rounds: 5, metrics: ['connections', 'add'] });
    const written = await writeReport(join(dir, 'new'), report);
    const again = await redraw(written.json, join(dir, 'elsewhere'));
    expect(again.report).toEqual(report);
    expect(again.html).toBe(join(dir, 'elsewhere', 'report.html'));
    expect(readFileSync(again.html, 'utf8')).toBe(readFileSync(written.html, 'utf8'));
  });

  it('keeps a sample that was no number, as void', async () => {
    const report = sampleReport({ tunnels: ['none'], rounds: 5, metrics: ['connections', 'add'] });
    const nothing = { ...report.samples[0]!, value: Number.NaN, valid: false, why: 'no connection came about' };
    const { json } = await writeReport(dir, { ...report, samples: [nothing] });
    expect((await redraw(json, dir)).report.samples).toEqual([nothing]);
  });

  it('is refused with file and field named', async () => {
    const path = join(dir, 'report.json');
    const refused = async (text: string): Promise<string> => {
      writeFileSync(path, text);
      return redraw(path, dir).then(
        () => 'it was taken',
        (error: unknown) => (error as Error).message,
      );
    };
    const good = JSON.parse(JSON.stringify(sampleReport({ tunnels: ['none'], rounds: 5, metrics: ['connections', 'add'] }))) as Record<
      string,
      unknown
    >;
    expect(await refused('{"valid": tr')).toContain(`read report ${path}: `);
    expect(await refused(JSON.stringify({ ...good, rounds: 'five' }))).toBe(
      `read report ${path}: rounds: Invalid input: expected number, received string`,
    );
    const [cell] = good['cells'] as { low: number; high: number }[];
    expect(await refused(JSON.stringify({ ...good, cells: [{ ...cell, low: cell!.high + 1 }] }))).toContain(
      'cells.0: the median lies outside of its interval',
    );
    expect(await refused(JSON.stringify({ ...good, cells: Array.from({ length: 20 }, () => 'x') }))).toContain('; and 12 more');
    await expect(redraw(join(dir, 'absent.json'), dir)).rejects.toMatchObject({ code: 'CONFIG_INVALID', systemCode: 'ENOENT' });
  });

  it('may have fields of a later version', () => {
    const report = sampleReport({ tunnels: ['none'], rounds: 5, metrics: ['connections', 'add'] });
    expect(reportSchema.parse({ ...report, weather: 'fine' })).toEqual(report);
  });
});
