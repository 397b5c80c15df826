/**
 * `make test` after the build: checks, rings, and whether anything of theirs is left on the machine. Prints each failure in full and, as the
 * very last line, `N passed, N failed`; exit code 1 when anything failed.
 *
 *   main.ts              everything
 *   main.ts unit bpf     these rings only, and what they left; also those that are not part of everything
 */
import { runChecks } from './checks.ts';
import { removeKilledRuns } from './killed.ts';
import { leftovers, snapshot } from './leftovers.ts';
import { progress, type Outcome } from './outcome.ts';
import { ALL_RINGS, isRing, RINGS, runRing } from './ring.ts';

const asked = process.argv.slice(2);
const unknown = asked.find((name) => !isRing(name));
if (unknown !== undefined) throw new Error(`no ring is called '${unknown}': ${ALL_RINGS.join(', ')}`);

const outcomes: Outcome[] = [];
if (asked.length === 0) outcomes.push(...(await runChecks()));

await removeKilledRuns();
const before = snapshot();
for (const ring of asked.length === 0 ? RINGS : ALL_RINGS.filter((name) => asked.includes(name))) outcomes.push(await runRing(ring));
const start = performance.now();
const clean = await leftovers(before);
progress('nothing left behind', clean, start);
outcomes.push(clean);

const failures = outcomes.flatMap((outcome) => outcome.failures);
for (const { title, detail } of failures) console.log(`\nFAILED: ${title}\n${detail.replace(/^/gm, '    ')}`);
if (failures.length > 0) console.log();
const passed = outcomes.reduce((sum, outcome) => sum + outcome.passed, 0);
console.log(`${String(passed)} passed, ${String(failures.length)} failed`);
process.exitCode = failures.length === 0 ? 0 : 1;
