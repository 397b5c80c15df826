/** What stands behind the numbers: whether the run is valid, where the time goes, the machine. */
import type { Environment, Profile, Report } from '../../report.ts';
import { metricOf } from '../catalogue.ts';
import { bytes, count, percent, quantity } from '../format.ts';
import { html, type Markup } from './markup.ts';

export function validity(report: Report): Markup {
  const lost = report.samples.filter(({ valid }) => !valid);
  const reasons = new Map<string, number>();
  for (const { scenario, tunnel, metric, why } of lost) {
    const text = `${tunnel}, ${scenario}, ${metricOf(metric).title}: ${why ?? 'no reason given'}`;
    reasons.set(text, (reasons.get(text) ?? 0) + 1);
  }
  return html`<p>
      ${report.valid ? 'The run is valid: wherever a number stands, the counters say that its traffic took the path of its scenario.' : 'The run is not valid:'}
    </p>
    ${
      report.invalidReasons.length === 0
        ? ''
        : html`<ul>
            ${report.invalidReasons.map((reason) => html`<li>${reason}</li>`)}
          </ul>`
    }
    <p>
      ${count(report.samples.length, 'sample')} in ${count(report.rounds, 'round')}, ${lost.length} of them void and left out of all
      medians, intervals and ratios.
    </p>
    ${
      reasons.size === 0
        ? ''
        : html`<ul>
            ${[...reasons].map(([text, times]) => html`<li>${text} (${count(times, 'time')})</li>`)}
          </ul>`
    }`;
}

export function environmentOf(environment: Environment, { seconds, started }: Report): Markup {
  const facts: [string, string][] = [
    ['kernel', `${environment.kernel}, ${environment.arch}`],
    ['processors', `${environment.cpus} of ${environment.cpu}`],
    ['memory', bytes(environment.memoryBytes)],
    ['virtual machine', environment.virtual ?? 'none seen'],
    ['Culvert, Node', `${environment.culvert}, ${environment.node}`],
    ['iptables, nft', `${environment.iptables ?? 'none'}, ${environment.nft ?? 'none'}`],
    ['load before, after', `${environment.loadBefore.join(' ')}, ${environment.loadAfter.join(' ')} (1, 5 and 15 minutes)`],
    [
      'used by others',
      `${percent(environment.strangers.median)} of the processors in the median, at most ${percent(environment.strangers.max)}`,
    ],
    ['nodes of the lab', String(environment.nodes)],
    ['load generator', `${count(environment.threads, 'thread')} for new connections, ${count(environment.streams, 'stream')} for bulk`],
    ['started, took', `${started}, ${quantity(seconds)} s`],
    ...Object.entries(environment.sysctls),
  ];
  return html`<dl class="facts">
    ${facts.map(
      ([name, value]) =>
        html`<dt>${name}</dt>
          <dd>${value}</dd>`,
    )}
  </dl>`;
}

export function profilesOf(profiles: readonly Profile[]): Markup {
  if (profiles.length === 0) return html`<p>None was taken in this run.</p>`;
  return html`<p>Taken in a round of its own after the measured ones, because counting costs, too.</p>
    <table>
      <caption>
        Where the time of one operation goes; client, server and tunnel together.
      </caption>
      <thead>
        <tr>
          ${['scenario', 'user CPU', 'kernel CPU', 'context switches', 'eBPF programs'].map((name) => html`<th scope="col">${name}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${profiles.map(profileRow)}
      </tbody>
    </table>`;
}

function profileRow(profile: Profile): Markup {
  const figure = (label: string, value: number | undefined, unit: string): Markup =>
    html`<td data-label="${label}">
      <span>${value === undefined ? '–' : html`<data value="${value}">${quantity(value)}</data> ${unit}`}</span>
    </td>`;
  return html`<tr>
    <th scope="row">
      ${profile.scenario}<small
        >tunnel ${profile.tunnel}, ${metricOf(profile.metric).title}, ${count(profile.operations, 'operation')}</small
      >
    </th>
    ${figure('user CPU', profile.userMicros, 'µs')} ${figure('kernel CPU', profile.systemMicros, 'µs')}
    ${figure('context switches', profile.contextSwitchesPerOperation, '')}
    <td data-label="eBPF programs">${profile.programs.length === 0 ? html`<span>none ran</span>` : profile.programs.map(programLine)}</td>
  </tr>`;
}

function programLine({ program, nsPerRun, runsPerOperation }: Profile['programs'][number]): Markup {
  return html`<span
    ><code>${program}</code> <data value="${nsPerRun}">${quantity(nsPerRun)}</data> ns × ${quantity(runsPerOperation)} =
    ${quantity(nsPerRun * runsPerOperation)} ns<br
  /></span>`;
}
