/**
 * report.html: one file that needs nothing else and runs no script. Its content security policy forbids both, whatever a name in the
 * report may contain.
 */
import type { Report } from '../report.ts';
import { environmentOf, profilesOf, validity } from './page/facts.ts';
import { html, Markup } from './page/markup.ts';
import { howToRead, method } from './page/method.ts';
import { STYLE } from './page/style.ts';
import { anchor, tunnelSection } from './page/tunnel.ts';
import { cautions, findings } from './sentences.ts';
import { sectionsOf } from './view.ts';

export async function renderHtml(report: Report): Promise<string> {
  const sections = sectionsOf(report);
  const drawn: Markup[] = [];
  for (const section of sections) drawn.push(await tunnelSection(section));
  const warned = cautions(report);
  const json = `data:application/json;base64,${Buffer.from(JSON.stringify(report)).toString('base64')}`;
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'" />
        <meta name="referrer" content="no-referrer" />
        <title>Culvert benchmark, ${report.started}</title>
        <style>
          ${new Markup(STYLE)}
        </style>
      </head>
      <body>
        <header>
          <h1>Culvert benchmark</h1>
          <p class="quiet">
            ${report.started}, ${report.environment.kernel}, ${report.environment.cpus} processors.
            ${report.valid ? 'Valid run.' : 'Not a valid run.'}
          </p>
          ${
            warned.length === 0
              ? ''
              : html`<div class="box caution" role="note">
                  <strong>Before you quote this:</strong>
                  <ul>
                    ${items(warned)}
                  </ul>
                </div>`
          }
          <div class="box">
            ${findings(report).map(
              ({ lead, sentences }) =>
                html`<p><strong>${lead}</strong></p>
                  <ul>
                    ${items(sentences)}
                  </ul>`,
            )}
          </div>
          <nav aria-label="Sections">
            <ul>
              <li><a href="#read">How to read it</a></li>
              ${sections.map((section) => html`<li><a href="#${anchor(section)}">Tunnel ${section.tunnel}</a></li>`)}
              <li><a href="#profiles">Where the time goes</a></li>
              <li><a href="#validity">Validity</a></li>
              <li><a href="#environment">Environment</a></li>
              <li><a href="#method">Method and command</a></li>
              <li><a href="${json}" download="report.json">All numbers (report.json)</a></li>
            </ul>
          </nav>
        </header>
        <main>
          <section aria-labelledby="read">
            <h2 id="read">How to read it</h2>
            ${howToRead()}
          </section>
          ${drawn}
          <section aria-labelledby="profiles">
            <h2 id="profiles">Where the time goes</h2>
            ${profilesOf(report.profiles ?? [])}
          </section>
          <section aria-labelledby="validity">
            <h2 id="validity">Validity</h2>
            ${validity(report)}
          </section>
          <section aria-labelledby="environment">
            <h2 id="environment">Environment</h2>
            ${environmentOf(report.environment, report)}
          </section>
          <section aria-labelledby="method">
            <h2 id="method">Method and command</h2>
            <pre><code>${report.command}</code></pre>
            ${method(report)}
          </section>
        </main>
      </body>
    </html> `.text;
}

function items(sentences: readonly string[]): Markup[] {
  return sentences.map((sentence) => html`<li>${sentence}</li>`);
}
