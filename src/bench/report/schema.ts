/** The shape of report.json, for whoever reads one that another version or another program wrote. Unknown fields are kept out, not refused. */
import { z } from 'zod';
import { tunnelKinds, type Report } from '../report.ts';

const tunnel = z.enum(tunnelKinds);
const number = z.number();
const share = z.number().min(0).max(1);
const load = z.tuple([number, number, number]);
/** Absent and undefined are the same in JSON. */
const maybe = <T extends z.ZodType>(type: T) => z.exactOptional(type);

const sample = z.object({
  round: z.int().min(1),
  scenario: z.string(),
  tunnel,
  metric: z.string(),
  unit: z.string(),
  /** JSON has no NaN: what was no number is null there. */
  value: z.union([number, z.null().transform(() => Number.NaN)]),
  valid: z.boolean(),
  why: maybe(z.string()),
});

const cell = z
  .object({
    scenario: z.string(),
    tunnel,
    metric: z.string(),
    unit: z.string(),
    samples: z.array(number),
    median: number,
    low: number,
    high: number,
    valid: z.boolean(),
    note: maybe(z.string()),
  })
  .refine(({ low, median, high }) => low <= median && median <= high, 'the median lies outside of its interval');

const ratio = z
  .object({ metric: z.string(), tunnel, a: z.string(), b: z.string(), median: number, low: number, high: number, rounds: z.int().min(1) })
  .refine(({ low, median, high }) => low <= median && median <= high, 'the median lies outside of its interval');

const profile = z.object({
  scenario: z.string(),
  tunnel,
  metric: z.string(),
  operations: number,
  programs: z.array(z.object({ program: z.string(), runs: number, nsPerRun: number, runsPerOperation: number })),
  contextSwitchesPerOperation: maybe(number),
  userMicros: maybe(number),
  systemMicros: maybe(number),
});

const environment = z.object({
  kernel: z.string(),
  arch: z.string(),
  cpu: z.string(),
  cpus: number,
  memoryBytes: number,
  culvert: z.string(),
  node: z.string(),
  iptables: maybe(z.string()),
  nft: maybe(z.string()),
  loadBefore: load,
  loadAfter: load,
  strangers: z.object({ median: share, max: share }),
  sysctls: z.record(z.string(), z.string()),
  nodes: number,
  threads: number,
  streams: number,
  virtual: maybe(z.string()),
});

export const reportSchema: z.ZodType<Report> = z.object({
  valid: z.boolean(),
  invalidReasons: z.array(z.string()),
  quick: z.boolean(),
  environment,
  command: z.string(),
  started: z.iso.datetime({ offset: true }),
  seconds: number,
  rounds: number,
  cells: z.array(cell),
  ratios: z.array(ratio),
  notApplicable: z.array(z.object({ scenario: z.string(), tunnel, why: z.string() })),
  profiles: maybe(z.array(profile)),
  tunnels: z.array(z.object({ kind: tunnel, description: z.string(), path: maybe(z.string()) })),
  samples: z.array(sample),
});
