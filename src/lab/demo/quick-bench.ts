/** The demo's last word: how fast the redirects are against each other, at a first look. It fails when a path was not taken, never for a figure. */
import { tmpdir } from 'node:os';
import { parseOptions } from '../../bench/options.ts';
import { Progress } from '../../bench/progress.ts';
import type { Report } from '../../bench/report.ts';
import { runBench } from '../../bench/run.ts';
import { CulvertError } from '../../base/errors.ts';

const SHOWN = [
  { metric: 'connections', title: 'new connections', digits: 2 },
  { metric: 'connection-cpu', title: 'CPU for each', digits: 2 },
  { metric: 'round-trips-8', title: 'round trips', digits: 2 },
  { metric: 'bulk', title: 'bulk', digits: 2 },
] as const;

/** @throws CulvertError CHECK_FAILED naming what is void; the signal's reason */
export async function quickBench(signal: AbortSignal): Promise<string> {
  const options = parseOptions({ quick: true, out: tmpdir() }); // nothing is written
  const report = await runBench({ options, command: 'culvert lab demo', progress: new Progress(() => undefined, false), signal });
  if (!report.valid) throw new CulvertError('CHECK_FAILED', report.invalidReasons.join('; '));
  return `ebpf against iptables, not to be quoted: ${ratios(report)}; "culvert bench" measures properly`;
}

function ratios({ ratios: all }: Report): string {
  return SHOWN.flatMap(({ metric, title, digits }) => {
    const ratio = all.find((each) => each.metric === metric && each.a === 'ebpf' && each.b === 'iptables');
    return ratio === undefined ? [] : [`${title} × ${ratio.median.toFixed(digits)}`];
  }).join(', ');
}
