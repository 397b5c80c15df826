/** A report on disk: report.json, and report.html beside it. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeAtomically } from '../../base/atomic-file.ts';
import { CulvertError, describe } from '../../base/errors.ts';
import type { Report } from '../report.ts';
import { renderHtml } from './html.ts';
import { reportSchema } from './schema.ts';

export interface StoredReport {
  json: string;
  html: string;
}

/** Both files, each whole or not at all; the numbers first, so that a fault in drawing loses none. @returns their paths */
export async function writeReport(directory: string, report: Report): Promise<StoredReport> {
  const paths = { json: join(directory, 'report.json'), html: join(directory, 'report.html') };
  await writeAtomically(paths.json, `${JSON.stringify(report, null, 2)}\n`);
  await writeAtomically(paths.html, await renderHtml(report));
  return paths;
}

/** The page of a report that was stored before, drawn again into `directory`. @returns the report, and the page's path */
export async function redraw(path: string, directory: string): Promise<{ report: Report; html: string }> {
  const report = await readReport(path);
  const html = join(directory, 'report.html');
  await writeAtomically(html, await renderHtml(report));
  return { report, html };
}

/** @throws CulvertError CONFIG_INVALID naming the file and every field that is not as it must be */
export async function readReport(path: string): Promise<Report> {
  let document: unknown;
  try {
    document = JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    throw new CulvertError('CONFIG_INVALID', `read report ${path}: ${describe(error)}`, error);
  }
  const result = reportSchema.safeParse(document);
  if (result.success) return result.data;
  const faults = result.error.issues.map(({ path: at, message }) => `${at.join('.') || 'the whole'}: ${message}`);
  const shown = faults.slice(0, 8).join('; ');
  const rest = faults.length > 8 ? `; and ${faults.length - 8} more` : '';
  throw new CulvertError('CONFIG_INVALID', `read report ${path}: ${shown}${rest}`);
}
