"""The report's style sheet: light and dark by the reader's preference, no web fonts."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #faf8f4; --card: #ffffff; --ink: #1c1e22; --muted: #646870; --rule: #e3dfd6;
  --faint: #f1eee7; --accent: #2458a8; --good: #176b50;
  --bad: #a3362b; --heat: 226 92 38; --cool: 36 110 200;
  --c0: #2a5db0; --c1: #cc5a1e; --c2: #15806a; --c3: #a83a86; --c4: #bb8600; --c5: #2e94c4;
  --c6: #6a4fb0; --c7: #777b84;
  --serif: Charter, "Bitstream Charter", "Iowan Old Style", "Source Serif 4", Georgia, serif;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  --mono: ui-monospace, "SF Mono", "Cascadia Code", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #131519; --card: #1a1d22; --ink: #e7e5df; --muted: #9da1aa; --rule: #2d3139;
    --faint: #22262c; --accent: #8fb4f5; --good: #62cfa8;
    --bad: #f08a7d; --heat: 232 106 52; --cool: 70 140 235;
    --c0: #7fa8f2; --c1: #f18d55; --c2: #4cc2a4; --c3: #e283c6; --c4: #e2b63f; --c5: #66c4ec;
    --c6: #ac97ea; --c7: #a4a8b0;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 var(--sans); }
main, header, footer { max-width: 1240px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 48px; }
.eyebrow { font-size: 13px; letter-spacing: .08em; text-transform: uppercase; color: var(--muted);
  margin: 0; }
h1, h2, .title, .tile dd { font-family: var(--serif); font-weight: 600; text-wrap: balance; }
h1 { font-size: clamp(28px, 4.5vw, 44px); line-height: 1.15; margin: 4px 0 20px;
  letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 27px; margin: 60px 0 16px; padding-top: 14px; border-top: 1px solid var(--rule);
  overflow-wrap: anywhere; }
h2 small, h2 .facts { font: 14px var(--sans); color: var(--muted); margin-left: 8px; }
h2 small { margin: 0; }
nav { display: flex; flex-wrap: wrap; gap: 4px 20px; margin-top: 24px; font-size: 14px; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
.meaning, .cut { color: var(--muted); font-size: 13px; line-height: 1.4; margin: 0; }
.badge { display: inline-block; font: 600 12px/1.6 var(--sans); letter-spacing: .02em;
  padding: 0 8px; border-radius: 99px; border: 1px solid currentColor; vertical-align: middle; }
.badge.running { color: var(--c1); }

.tiles { display: flex; flex-wrap: wrap; gap: 18px 40px; margin: 0; align-items: flex-end; }
.tile dt { font-size: 13px; color: var(--muted); }
.tile dd { margin: 0; font-size: 22px;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.hero { flex: 0 0 auto; padding-right: 40px; border-right: 1px solid var(--rule); }
.hero dd { font-size: clamp(38px, 6vw, 56px); line-height: 1.05; letter-spacing: -.02em; }
.hero .before, .arrow { color: var(--muted); font-weight: 400; }
.hero .arrow { font-size: .7em; vertical-align: .08em; }
.after.rise { color: var(--good); }
.after.drop { color: var(--bad); }

.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; min-width: 50%; }
th, td { text-align: left; padding: 6px 24px 6px 0; border-bottom: 1px solid var(--rule);
  vertical-align: top; font-variant-numeric: tabular-nums; }
th { font-weight: 500; }
thead th { color: var(--muted); font-size: 13px; white-space: nowrap; }
table.figures { width: 100%; font-size: 15px; }
table.figures.head td:nth-child(3) { font-size: 17px; }
table.fields td { font: 13px/1.5 var(--mono); overflow-wrap: anywhere; }
table.fields tbody th { color: var(--muted); white-space: nowrap; }
.none { color: var(--muted); }

.charts { display: grid; gap: 20px;
  grid-template-columns: repeat(auto-fill, minmax(min(340px, 100%), 1fr)); }
.chart { position: relative; margin: 0; padding: 14px 14px 10px; background: var(--card);
  border: 1px solid var(--rule); border-radius: 10px; min-width: 0; outline-offset: 2px; }
.chart:focus-visible, button:focus-visible, select:focus-visible, summary:focus-visible {
  outline: 2px solid var(--accent); }
figcaption { display: flex; flex-wrap: wrap; align-items: baseline; justify-content: space-between;
  gap: 0 12px; margin-bottom: 6px; }
figcaption .title { font-size: 18px; }
figcaption .last { font-size: 14px; font-variant-numeric: tabular-nums; color: var(--muted); }
figcaption .meaning { flex: 1 0 100%; min-height: 1.4em; }
.cut { font-size: 12px; text-align: right; }
svg { display: block; width: 100%; height: auto; overflow: visible; touch-action: pan-y; }
.tick { font: 11.5px var(--sans); fill: var(--muted); font-variant-numeric: tabular-nums; }
.grid { stroke: var(--rule); stroke-width: 1; fill: none; }
.grid.base { stroke: var(--muted); opacity: .6; }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); } .c3 { --c: var(--c3); }
.c4 { --c: var(--c4); } .c5 { --c: var(--c5); } .c6 { --c: var(--c6); } .c7 { --c: var(--c7); }
.line, .raw { fill: none; stroke: var(--c); stroke-linejoin: round; stroke-linecap: round; }
.line { stroke-width: 2; }
.raw { stroke-width: 1; stroke-opacity: .3; }
.dashed { stroke-dasharray: 5 4; }
.dot { fill: var(--c); }
.area { fill: var(--c); fill-opacity: .85; stroke: var(--card); stroke-width: .5; }
.guide { stroke: var(--muted); stroke-width: 1; stroke-dasharray: 2 3; }
.marker { fill: var(--c); stroke: var(--card); stroke-width: 1.5; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; list-style: none; margin: 6px 0 2px;
  padding: 0; font-size: 13px; color: var(--muted); }
section > .legend { font-size: 14px; margin-bottom: 16px; color: var(--ink); }
.swatch { display: inline-block; width: 14px; height: 4px; border-radius: 2px; margin-right: 7px;
  vertical-align: 3px; background: var(--c); }
.swatch.dashed {
  background: repeating-linear-gradient(90deg, var(--c) 0 4px, transparent 4px 6px); }
.bars { display: grid; gap: 10px; margin: 12px 0; font-size: 13px; }
.bar { display: grid; grid-template-columns: minmax(60px, 36%) 1fr 48px; gap: 10px;
  align-items: center; }
.bar span:first-child { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.bar span:last-child { text-align: right; font-variant-numeric: tabular-nums; }
.track { display: flex; height: 16px; gap: 1px; }
.track i { background: var(--c); min-width: 1px; }
.track i.dashed {
  background: repeating-linear-gradient(135deg, var(--c) 0 4px, transparent 4px 7px); }
.more { margin-top: 20px; }
.more > summary { cursor: pointer; font-size: 15px; padding: 6px 0; color: var(--accent); }
.more > summary span { color: var(--muted); font-size: 13px; }
.more > :not(summary) { margin-top: 10px; }

#tip { position: fixed; z-index: 9; pointer-events: none; background: var(--ink);
  color: var(--paper);
  font-size: 13px; line-height: 1.45; padding: 6px 10px; border-radius: 6px; max-width: 300px;
  font-variant-numeric: tabular-nums; box-shadow: 0 4px 16px rgb(0 0 0 / .25); }
#tip[hidden] { display: none; }
#tip div { display: flex; justify-content: space-between; gap: 16px; }
#tip b { font-weight: 600; white-space: pre; }
#tip .swatch { vertical-align: 3px; }

.controls { display: flex; flex-wrap: wrap; gap: 10px 20px; align-items: end; margin: 16px 0; }
.controls label, .controls fieldset { font-size: 13px; color: var(--muted); border: 0; padding: 0;
  margin: 0; min-width: 0; }
.controls legend { padding: 0; }
button, select { font: 14px var(--sans); color: var(--ink); background: var(--card);
  border: 1px solid var(--rule); padding: 5px 12px; border-radius: 7px; min-height: 34px;
  cursor: pointer; }
select { display: block; max-width: min(420px, 80vw); }
.segments { display: flex; }
.segments button { border-radius: 0; margin-left: -1px; }
.segments button:first-child { border-radius: 7px 0 0 7px; margin: 0; }
.segments button:last-child { border-radius: 0 7px 7px 0; }
.segments button:only-child { border-radius: 7px; }
button[aria-pressed=true] { background: var(--ink); color: var(--paper); border-color: var(--ink); }
.prompt { display: grid; grid-template-columns: 2fr 1fr; gap: 20px; margin-top: 10px; }
.prompt h3, .sample h3 { font: 600 13px var(--sans); color: var(--muted); margin: 0 0 4px; }
pre { margin: 0; font: 14px/1.6 var(--mono); white-space: pre-wrap; overflow-wrap: anywhere; }
.prompt pre { background: var(--faint); padding: 10px 14px; border-radius: 8px; max-height: 320px;
  overflow-y: auto; }
.group { display: flex; flex-wrap: wrap; gap: 6px 24px; align-items: center; margin: 16px 0 10px;
  font-size: 14px; color: var(--muted); }
.group b { color: var(--ink); font-variant-numeric: tabular-nums; }
.scale { display: inline-flex; align-items: center; gap: 7px; }
.scale i { width: 90px; height: 10px; border-radius: 5px; border: 1px solid var(--rule); }
.samples { display: grid; gap: 10px;
  grid-template-columns: repeat(auto-fill, minmax(min(460px, 100%), 1fr)); }
.sample { background: var(--card); border: 1px solid var(--rule);
  border-left: 4px solid var(--edge); border-radius: 8px; padding: 10px 16px 12px; min-width: 0; }
.sample header { padding: 0; margin: 0 0 8px; max-width: none; display: flex; flex-wrap: wrap;
  gap: 4px 20px; align-items: baseline; font-size: 13px; color: var(--muted); }
.sample header b { font-size: 16px; color: var(--ink); font-variant-numeric: tabular-nums; }
.sample header .badge { color: var(--c1); }
.sample header .parts { overflow-wrap: anywhere; }
.tokens span { border-radius: 2px; }
.tokens span:hover { outline: 1.5px solid var(--ink); }
.tokens .inserted { color: var(--muted); font-style: italic; }
.tokens .clipped { text-decoration: underline 3px var(--cool-ink); text-underline-offset: 4px;
  text-decoration-skip-ink: none; }
.tokens .mark { opacity: .5; }
.example { margin: 16px 0; }
.example pre { background: var(--card); border: 1px solid var(--rule); border-radius: 8px;
  padding: 10px 14px; max-height: 420px; overflow-y: auto; }
.example pre span:hover { outline: 1.5px solid var(--ink); }
.token-prompt { color: var(--muted); }
.token-learned { background: rgb(var(--cool) / .16); }
.token-end { background: rgb(var(--cool) / .5); font-weight: 600; }
.token-unlearned { background: rgb(var(--heat) / .28); }
.key-clipped { text-decoration: underline 3px var(--cool-ink); text-underline-offset: 4px; }
:root { --cool-ink: rgb(var(--cool)); }
footer { margin-top: 64px; padding-bottom: 40px; font-size: 13px; color: var(--muted); }
@media (max-width: 720px) {
  main, header, footer { padding-left: 16px; padding-right: 16px; }
  header { padding-top: 28px; }
  .hero { border: 0; padding: 0; flex-basis: 100%; }
  .tiles { gap: 14px 28px; }
  .prompt { grid-template-columns: 1fr; gap: 12px; }
  .tick { font-size: 13px; }
  th, td { padding-right: 14px; }
}
@media print { nav, .controls { display: none; } .chart { break-inside: avoid; } }
"""
