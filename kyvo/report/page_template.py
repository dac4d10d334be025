"""The frame of a run's page: its style, for light and dark and for narrow and wide, and the script of its filters."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbfbfa; --card: #ffffff; --ink: #1f2328; --faint: #656d76; --line: #dfe2e6;
  --good: #1a7f4b; --bad: #b3261e; --mark: #ffe8a3; --heat: 45 110 200; --accent: #2d6ec8;
  --c0: #2d6ec8; --c1: #d9730d;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14161a; --card: #1c1f25; --ink: #e3e6ea; --faint: #9aa3ad; --line: #32373f;
    --good: #5fce92; --bad: #ff8a80; --mark: #5d4a10; --heat: 90 150 240; --accent: #7fb0f5;
    --c0: #7fb0f5; --c1: #f0a35e;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 1240px; padding: 1.5rem clamp(.9rem, 3vw, 2.5rem) 5rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere;
}
h1 { font-size: clamp(1.5rem, 4vw, 2.1rem); line-height: 1.2; margin: 0 0 .2rem; letter-spacing: -.015em; }
h2 { font-size: 1.35rem; margin: 2.6rem 0 .8rem; padding-top: .9rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .6rem; }
h4 { font-size: 1rem; margin: 1.4rem 0 .5rem; }
small, .faint, figcaption, caption { color: var(--faint); font-size: .82rem; font-weight: 400; }
code { font: .82em ui-monospace, SFMono-Regular, Menlo, monospace; color: var(--faint); }
mark { background: var(--mark); color: inherit; border-radius: 3px; padding: 0 .25em; }
[hidden] { display: none !important; }
.bad { color: var(--bad); font-style: normal; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .35rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; }
thead th { color: var(--faint); font-size: .82rem; }
table.results { width: 100%; }
table.results td:nth-child(3) { min-width: 130px; }
table.objects td { text-align: left; white-space: normal; min-width: 9rem; }
table.objects td:last-child { min-width: 3rem; text-align: right; }
table.confusion td { background: rgb(var(--heat) / calc(var(--share, 0) * .6)); text-align: center; }
table.confusion th[scope="col"] { text-align: center; }
table.confusion caption { text-align: left; padding-bottom: .3rem; }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); }
.grid > *, article { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .8rem; }
.grid > * { min-width: 0; margin: 0; }
.tables { display: flex; flex-wrap: wrap; gap: 1.2rem 2rem; align-items: flex-start; }
.tables > * { min-width: 0; max-width: 100%; overflow-x: auto; }
.samples { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr)); }
article { min-width: 0; }
article header { display: flex; flex-wrap: wrap; gap: .2rem .8rem; align-items: baseline; margin-bottom: .6rem; }
.panels { display: grid; gap: .6rem; grid-template-columns: repeat(auto-fill, minmax(min(46%, 130px), 1fr)); }
/* Four would leave one alone in its row. */
.panels:has(> :nth-child(4):last-child) { grid-template-columns: 1fr 1fr; }
figure { margin: 0; min-width: 0; }
figure img { display: block; width: 100%; max-width: 256px; height: auto; aspect-ratio: auto; border-radius: 6px;
  border: 1px solid var(--line); background: #fff; image-rendering: pixelated; }
figure img[src^="data:image/jpeg"] { image-rendering: auto; }
figure.said p { margin: 0; padding: .5rem .6rem; border-left: 3px solid var(--line); font-size: .95rem; }
figure.generated p { border-color: var(--accent); }
figure.target p { border-color: var(--good); }
figcaption b.true { color: rgb(20 160 80); } figcaption b.written { color: rgb(220 50 160); }
figure.missing p { color: var(--faint); font-style: italic; }
details { margin-top: .6rem; }
summary { cursor: pointer; color: var(--faint); font-size: .86rem; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--faint); font: 11px system-ui, sans-serif; }
svg .rule { stroke: var(--line); stroke-width: 1; }
svg polyline { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
polyline.c0 { stroke: var(--c0); } polyline.c1 { stroke: var(--c1); }
circle.c0, text.c0 { fill: var(--c0); } circle.c1, text.c1 { fill: var(--c1); }
.key { font-size: .82rem; } .key.c0 { color: var(--c0); } .key.c1 { color: var(--c1); }
.key::before { content: ""; display: inline-block; width: .9em; height: 3px; margin: 0 .35em .25em .6em;
  background: currentColor; border-radius: 2px; }
svg.gauge { height: 14px; width: 100%; min-width: 120px; }
.gauge .track { fill: var(--line); } .gauge .reached { fill: var(--accent); }
.gauge .base { stroke: var(--faint); stroke-width: 2; } .gauge .top { stroke: var(--good); stroke-width: 2; }
.gauge .spread { stroke: var(--ink); stroke-width: 2; }
nav { position: sticky; top: 0; z-index: 1; margin: 1rem 0 0; padding: .6rem 0; background: var(--paper);
  border-bottom: 1px solid var(--line); display: flex; flex-wrap: wrap; gap: .4rem 1.2rem; align-items: center; }
nav div { display: flex; flex-wrap: wrap; gap: .3rem; align-items: center; }
button { font: inherit; font-size: .86rem; color: inherit; background: var(--card); border: 1px solid var(--line);
  border-radius: 99px; padding: .2rem .75rem; cursor: pointer; }
button[aria-pressed="true"] { background: var(--accent); border-color: var(--accent); color: var(--card); }
button:focus-visible, summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
@media (max-width: 600px) {
  body { font-size: 15px; }
  th, td { padding: .3rem .45rem; }
  /* What was reached stays in sight. */
  table.results th[scope="row"] { white-space: normal; min-width: 8rem; }
  table.results th[scope="row"] small { display: block; }
  nav { position: static; }
}
@media print { nav { display: none; } article, .grid > * { break-inside: avoid; } }
"""

SCRIPT = """
"use strict";
const all = selector => Array.from(document.querySelectorAll(selector));
const chosen = { task: "", group: "", formed: "" };
const things = all("[data-task]");
const cards = all("article[data-task]");
const groups = all("section[data-group]");
const buttons = all("button[data-filter]");
// What says nothing of a filter's subject is not hidden by it.
const fits = data => Object.keys(chosen).every(name => !chosen[name] || !(name in data) || data[name] === chosen[name]);

function refresh() {
  for (const thing of things) thing.hidden = !fits(thing.dataset);
  // A heading alone says nothing.
  for (const group of groups) {
    const own = Array.from(group.querySelectorAll("article"));
    if (own.every(card => card.hidden)) group.hidden = true;
  }
  for (const button of buttons) {
    const pressed = chosen[button.dataset.filter] === button.dataset.value;
    button.setAttribute("aria-pressed", String(pressed));
  }
  const shown = cards.filter(card => !card.hidden).length;
  document.getElementById("count").textContent = shown + " of " + cards.length + " samples shown";
}

for (const button of buttons) button.addEventListener("click", () => {
  chosen[button.dataset.filter] = button.dataset.value;
  refresh();
});
document.getElementById("filters").hidden = false;
refresh();
"""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
<script>{script}</script>
</body>
</html>
"""
