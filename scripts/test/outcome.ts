/** What every check and ring of `make test` ends with; the sum of all is the last line. */
export interface Failure {
  title: string;
  /** all there is to say: stack, diff, output */
  detail: string;
}

export interface Outcome {
  passed: number;
  failures: Failure[];
}

const TOLD_LINES = 12;

/** One line of progress: what, result, seconds since `start` (of `performance.now()`). */
export function progress(what: string, { passed, failures }: Outcome, start: number): void {
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  const verdict = failures.length === 0 ? 'PASS' : 'FAIL';
  const counts = failures.length === 0 ? `${String(passed)} passed` : `${String(passed)} passed, ${String(failures.length)} failed`;
  console.log(`  ${verdict.padEnd(8)} ${what.padEnd(52)} ${counts.padStart(20)} ${seconds.padStart(7)} s`);
}

/** A failure as soon as it is known: who kills a run half-way, or keeps only a part of what it printed, has the reason. */
export function tell({ title, detail }: Failure): void {
  console.log(`FAILED: ${title}\n${detail.split('\n').slice(0, TOLD_LINES).join('\n').replace(/^/gm, '    ')}`);
}
