/** The page's style sheet: light, dark and paper; one column on a telephone, where tables become lists. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1b1f24; --quiet: #57606a; --grid: #e4e7eb; --band: #dfe3e8; --box: #f5f6f8; --line: #c9ced6;
  --good: #0072b2; --bad: #d55e00; --warn: #fff4e0; --warn-line: #b35900; --link: #0b5cad;
  --direct: #4b5563; --direct-2: #7b8794; --iptables: #d55e00; --nftables: #b0508a; --ebpf: #0072b2; --geneve: #8a6d00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171b; --ink: #e6e9ed; --quiet: #a2abb6; --grid: #2b3138; --band: #343b44; --box: #1d2126; --line: #424a54;
    --good: #56b4e9; --bad: #ff8a4c; --warn: #33270f; --warn-line: #e0a13c; --link: #7cc0ff;
    --direct: #b6bec8; --direct-2: #8a94a1; --iptables: #ff8a4c; --nftables: #e695c5; --ebpf: #56b4e9; --geneve: #d9b64a;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem clamp(.75rem, 3vw, 2rem) 4rem; max-width: 86rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.35rem; margin: 2.5rem 0 .5rem; padding-top: .5rem; border-top: 2px solid var(--line); }
h3 { font-size: 1.1rem; margin: 1.75rem 0 .5rem; }
p, li { max-width: 78ch; }
a { color: var(--link); }
a:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
code, pre { font-family: ui-monospace, "DejaVu Sans Mono", "Liberation Mono", monospace; font-size: .9em; }
pre { white-space: pre-wrap; background: var(--box); padding: .6rem .8rem; border-radius: 4px; margin: .5rem 0; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; padding: 0; }
.quiet, caption { color: var(--quiet); font-size: .9rem; }
.box { background: var(--box); border-left: 4px solid var(--line); padding: .5rem 1rem; margin: 1rem 0; border-radius: 0 4px 4px 0; }
.box p { margin: .4rem 0 0; } .box ul { margin: .2rem 0 .6rem; padding-left: 1.4rem; }
.caution { background: var(--warn); border-color: var(--warn-line); }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); gap: 1.25rem 1.75rem; margin: 1rem 0; }
figure { margin: 0; break-inside: avoid; }
figure svg { display: block; width: 100%; height: auto; max-width: 32rem; font-family: inherit; }
table { border-collapse: collapse; width: 100%; margin: .75rem 0; font-variant-numeric: tabular-nums; font-size: .9rem; }
caption { text-align: left; padding-bottom: .25rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .5rem; border-bottom: 1px solid var(--grid); font-weight: normal; }
thead th { border-bottom: 2px solid var(--line); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 600; min-width: 9rem; }
td small, th small { display: block; color: var(--quiet); font-weight: normal; font-size: .85em; }
td .verdict { display: block; font-size: .92em; white-space: nowrap; }
td.against { background: var(--warn); }
td.against .verdict { font-weight: 700; }
sup a { text-decoration: none; padding: 0 .15em; }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.25rem; }
dl.facts dt { color: var(--quiet); } dl.facts dd { margin: 0; }
@media screen and (max-width: 60rem) {
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  table, caption, tbody, tr, th, td { display: block; width: 100%; }
  tr { border-bottom: 1px solid var(--line); padding: .4rem 0; }
  tbody th, td { border: 0; padding: .15rem .5rem; min-width: 0; }
  td { padding-left: 10rem; }
  td::before { content: attr(data-label); color: var(--quiet); float: left; width: 9rem; margin-left: -9.5rem; }
  td small, td .verdict { display: inline; }
  td.empty { display: none; }
  dl.facts { grid-template-columns: 1fr; gap: 0; } dl.facts dd { margin-bottom: .4rem; }
}
@media print {
  :root { color-scheme: light; --paper: #ffffff; --ink: #000000; --quiet: #444444; --grid: #dddddd; --band: #dddddd; --box: #f5f5f5; --line: #999999; }
  body { font-size: 9.5pt; padding: 0; max-width: none; }
  nav { display: none; }
  h2, h3 { break-after: avoid; }
  tr, .box { break-inside: avoid; }
  table { font-size: 7.5pt; } th, td { padding: .15rem .25rem; } tbody th { min-width: 0; }
  .plots { grid-template-columns: 1fr 1fr; gap: .75rem; }
}
`;
