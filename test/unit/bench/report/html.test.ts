import { beforeAll, describe, expect, it, vi } from 'vitest';
import { renderHtml } from '../../../../src/bench/report/html.ts';
import { sampleReport } from '../../../support/bench-report.ts';

const HOSTILE = `<script>document.title="owned"</script><img src=x onerror=alert(1)>'"&`;

/** Values of <data> elements in the order of the page. */
function dataOf(html: string): number[] {
  return [...html.matchAll(/<data\s+value="([^"]*)"/g)].map(([, value]) => Number(value));
}

/** Tags that a browser would open, svg's own among them. */
function tagsOf(html: string): Set<string> {
  return new Set([...html.matchAll(/<([a-zA-Z][a-zA-Z0-9]*)/g)].map(([, name]) => name!.toLowerCase()));
}

const FEW = ['connections', 'bulk-cpu', 'round-trips-64', 'add'];
const whole = sampleReport({ tunnels: ['none'], rounds: 6 });
let page: string;
beforeAll(async () => {
  page = await renderHtml(whole);
});

describe('report.html', () => {
  it('holds exactly the numbers of the report', () => {
    const report = whole;
    const shown = dataOf(page).sort((a, b) => a - b);
    const profiles = report.profiles!.flatMap(({ userMicros, systemMicros, contextSwitchesPerOperation, programs }) => [
      ...[userMicros!, systemMicros!, contextSwitchesPerOperation!],
      ...programs.map(({ nsPerRun }) => nsPerRun),
    ]);
    const numbers = [
      ...report.cells.filter(({ valid }) => valid).map(({ median }) => median),
      ...report.ratios.map(({ median }) => median),
      ...profiles,
    ];
    expect(shown).toEqual(numbers.sort((a, b) => a - b));
  });

  it('carries the whole report.json with it', () => {
    const [, encoded] = /href="data:application\/json;base64,([^"]*)"/.exec(page)!;
    expect(JSON.parse(Buffer.from(encoded!, 'base64').toString('utf8'))).toEqual(whole);
  });

  it('runs no script and fetches nothing, whatever names are in it', async () => {
    const warned = vi.spyOn(console, 'warn');
    const html = await renderHtml(sampleReport({ tunnels: ['none', 'external'], rounds: 2, hostile: HOSTILE, metrics: FEW }));
    expect(warned).not.toHaveBeenCalled();
    expect(html).toContain(`content="default-src 'none'; style-src 'unsafe-inline'"`);
    const forbidden = ['script', 'img', 'link', 'iframe', 'object', 'embed', 'image', 'use', 'foreignobject', 'base', 'form'];
    expect(forbidden.filter((tag) => tagsOf(html).has(tag))).toEqual([]);
    // Namespaces of SVG are names, not addresses to fetch.
    expect(html.replaceAll(/xmlns(:\w+)?="[^"]*"/g, '')).not.toMatch(/https?:\/\/|url\(|@import/);
    // The text is there for people to read: in the title of the machine, a footnote, a program's name and the command.
    expect(html.match(/&#60;script&#62;/g)!.length).toBeGreaterThan(4);
  });

  it('escapes names inside plots and their descriptions', async () => {
    const report = sampleReport({ tunnels: ['none'], rounds: 5, metrics: FEW });
    const renamed = report.cells.filter(({ scenario }) => scenario === 'geneve').map((cell) => ({ ...cell, scenario: HOSTILE }));
    const html = await renderHtml({ ...report, cells: [...report.cells, ...renamed] });
    const svgs = html.match(/<svg[\s\S]*?<\/svg>/g)!;
    expect(svgs.filter((svg) => svg.includes('owned')).length).toBeGreaterThan(2);
    expect(tagsOf(html).has('script')).toBe(false);
    expect(tagsOf(html).has('img')).toBe(false);
  });

  it('says in words what each plot shows, and names every cell for narrow screens', () => {
    const svgs = page.match(/<svg [^>]*>/g)!;
    expect(svgs.length).toBeGreaterThan(20);
    for (const svg of svgs) expect(svg).toMatch(/role="img" aria-label="(Plot|Forest plot)[^"]{40,}"/);
    expect(page.match(/<td(?![^>]*data-label="[^"]+")[^>]*>/g)).toBeNull();
  });

  it('marks in words what speaks against eBPF, what is void and what cannot be', async () => {
    const html = await renderHtml(sampleReport({ tunnels: ['builtin'], metrics: FEW }));
    expect(html).toMatch(/class="against"[^>]*data-label="ebpf \/ iptables"[\s\S]{0,300}iptables better/);
    expect(html).toMatch(/iptables is better in 1 \(CNI ADD: /);
    expect(html).toContain('9 of 9 void: the counter of its rule did not move');
    expect(html).toContain('1 of 9 void: 3 of 900 round trips failed');
    expect(html).toContain('n/a: a tunnel inside the pod has no listener for the whole node');
  });

  it('warns before anything else of a run that is not to be quoted', async () => {
    const report = {
      ...sampleReport({ tunnels: ['none'], rounds: 3 }),
      quick: true,
      valid: false,
      invalidReasons: ['ebpf: no counter moved'],
    };
    const html = await renderHtml(report);
    const head = html.slice(html.indexOf('<h1>'), html.indexOf('<main>'));
    expect(head).toContain('Not a valid run');
    expect(head).toContain('This run is not valid: ebpf: no counter moved.');
    expect(head).toContain('a first look (--quick)');
    expect(head).toContain('only 3 rounds');
  });

  it('stands with nothing measured', async () => {
    const none = { ...sampleReport({ tunnels: ['none'], rounds: 5, metrics: [] }), cells: [], ratios: [], samples: [], profiles: [] };
    expect(await renderHtml(none)).toContain('<h2 id="environment">');
  });
});
