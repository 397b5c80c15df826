/** How the numbers came about and how to read them: what a doubting reader asks first. */
import type { Report } from '../../report.ts';
import { ENOUGH_ROUNDS, RESAMPLES } from '../../statistics/interval.ts';
import { count } from '../format.ts';
import { html, type Markup } from './markup.ts';

export function howToRead(): Markup {
  return html`<ul>
    <li>
      A number is the <strong>median</strong> of the rounds, the two below it the ends of its <strong>95 % interval</strong>: the less they
      lie apart, the better it is known.
    </li>
    <li>
      A <strong>ratio</strong> a / b compares two scenarios in the same round. 1.2 for connections per second means a fifth more; 0.8 for
      CPU time means a fifth less.
    </li>
    <li>
      “<strong>within noise</strong>”: two pairs of pods that are the same (<code>direct-2 / direct</code>, A/A) come out as far apart. Then
      nothing is known but that the difference is small. “<strong>undecided</strong>”: the interval contains 1, and there is no such pair to
      compare with.
    </li>
    <li>
      “<strong>iptables better</strong>” and “<strong>direct better</strong>” are printed like everything else, and marked where they speak
      against eBPF.
    </li>
    <li>
      On two saturated cores <strong>CPU per operation is the robust figure</strong>: rates and latency at saturation depend on how client,
      server and tunnel share the processors, and a change in one moves all.
    </li>
    <li>
      <code>void</code>: the counters say that the traffic did not take its scenario’s path, or too much failed. <code>n/a</code>: it cannot
      exist, for the reason given.
    </li>
  </ul>`;
}

export function method(report: Report): Markup {
  const few =
    report.rounds < ENOUGH_ROUNDS ? ` This run has fewer than ${ENOUGH_ROUNDS}, and its intervals promise less than they say.` : '';
  return html`<ul>
    <li>
      All scenarios stand at once, each with one pair of pods of its own, on the same ${report.environment.nodes === 1 ? 'node' : 'nodes'}
      and with the same tunnel. In each of ${count(report.rounds, 'round')} every scenario has its turn, in an order that changes, so that
      none is always first, or always behind the same one.${few}
    </li>
    <li>
      Intervals: percentile bootstrap of the median, ${RESAMPLES.toLocaleString('en-US')} resamples, a fixed seed, so that the same samples
      give the same intervals. With five or six rounds the interval is the whole range from least to greatest.
    </li>
    <li>Ratios are formed inside each round, and then their median and interval; never from medians of different rounds.</li>
    <li>
      The noise of a metric is the interval of <code>direct-2 / direct</code>, mirrored at 1. A ratio whose interval meets it is called
      “within noise”. Where there is no such pair (putting a redirect in or out), a ratio counts as a difference when its interval does not
      contain 1.
    </li>
    <li>Many comparisons at 95 % each: of twenty, one may be wrong by chance alone.</li>
    <li>Warm-up is dropped. Sockets in TIME_WAIT are limited alike in every pod.</li>
    <li>
      CPU time is what cgroup v2 accounts to client, server and tunnel; the kernel’s work for a packet is nearly all in it, because whoever
      sends does it. What kernel threads do is not: it is in what others used (Environment).
    </li>
  </ul>`;
}
