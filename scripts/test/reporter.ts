/**
 * The reporter vitest runs for scripts/test/ring.ts: one JSON line on file descriptor 3 per finished file, and one at the end.
 * stdout and stderr stay free for what tests and their processes print.
 */
import { writeSync } from 'node:fs';
import { stripVTControlCharacters } from 'node:util';
import type { Reporter, SerializedError, TestCase, TestModule } from 'vitest/node';
import type { Failure } from './outcome.ts';

export interface ModuleEnd {
  type: 'module';
  path: string;
  seconds: number;
  passed: number;
  failures: Failure[];
  skipped: { title: string; note: string | undefined }[];
}

export interface RunEnd {
  type: 'end';
  /** errors that belong to no test: in a hook of a file, a rejection nobody handled */
  errors: string[];
}

const RESULTS_FD = 3;

export default class RingReporter implements Reporter {
  onTestModuleEnd(module: TestModule): void {
    const path = module.relativeModuleId;
    const event: ModuleEnd = { type: 'module', path, seconds: module.diagnostic().duration / 1000, passed: 0, failures: [], skipped: [] };
    for (const test of module.children.allTests()) add(event, `${path} > ${test.fullName}`, test);
    const suites = [...module.children.allSuites()].map((suite) => ({ title: `${path} > ${suite.fullName}`, errors: suite.errors() }));
    for (const { title, errors } of [{ title: path, errors: module.errors() }, ...suites]) {
      if (errors.length > 0) event.failures.push({ title, detail: errors.map(inFull).join('\n') });
    }
    send(event);
  }

  onTestRunEnd(_modules: readonly TestModule[], unhandled: readonly SerializedError[]): void {
    send({ type: 'end', errors: unhandled.map(inFull) });
  }
}

function add(event: ModuleEnd, title: string, test: TestCase): void {
  const result = test.result();
  if (result.state === 'passed') event.passed += 1;
  else if (result.state === 'skipped') event.skipped.push({ title, note: result.note });
  else event.failures.push({ title, detail: result.state === 'failed' ? result.errors.map(inFull).join('\n') : 'never finished' });
}

function inFull(error: SerializedError): string {
  const parts = [error.stack ?? error.message, ...(typeof error['diff'] === 'string' ? [error['diff']] : [])];
  if (error.cause !== undefined) parts.push(`caused by ${inFull(error.cause)}`);
  return stripVTControlCharacters(parts.join('\n'));
}

function send(event: ModuleEnd | RunEnd): void {
  writeSync(RESULTS_FD, `${JSON.stringify(event)}\n`);
}
