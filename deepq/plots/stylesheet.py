"""How the page of a report looks: on a desk, a telephone and paper, light and dark."""

from __future__ import annotations

_LIGHT = """
--page: #fafaf8; --surface: #ffffff; --ink: #1a1f24; --muted: #56606b; --line: #dde1e6;
--accent: #00588f; --right: #00664a; --wrong: #9c3a00; --wash: #e9f4f0; --grid: #b6bec8;
--series-0: #0072b2; --series-1: #d55e00; --series-2: #009e73; --series-3: #8a2be2;
--series-4: #5f6273; --series-5: #de1b51;
"""
_DARK = """
--page: #12161a; --surface: #1a2026; --ink: #e6eaee; --muted: #a3aeb9; --line: #303943;
--accent: #6fbcf2; --right: #4fd1a5; --wrong: #f5a06a; --wash: #17302a; --grid: #566270;
--series-0: #56b4e9; --series-1: #f08a45; --series-2: #33c79b; --series-3: #b894ff;
--series-4: #b4b8c8; --series-5: #ff7f9f;
"""
_RULES = """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0 auto; max-width: 70rem; padding: clamp(1.1rem, 4vw, 3rem);
  background: var(--page); color: var(--ink);
  font: 1rem/1.55 var(--font); overflow-wrap: anywhere;
}
header { border-top: 4px solid var(--accent); padding-top: 1rem; }
.eyebrow {
  margin: 0; color: var(--accent); font-size: .8rem; font-weight: 650;
  letter-spacing: .12em; text-transform: uppercase;
}
h1 {
  margin: .15rem 0 .3rem; font-size: clamp(1.7rem, 1.2rem + 2.4vw, 2.6rem);
  font-weight: 680; line-height: 1.15; letter-spacing: -.02em;
}
.lead { margin: 0 0 1.6rem; color: var(--muted); font-size: 1.08rem; max-width: 46rem; }
h2 {
  margin: 0 0 .5rem; font-size: 1.4rem; font-weight: 650; letter-spacing: -.01em; line-height: 1.25;
}
h3 { margin: 0 0 .5rem; font-size: 1rem; font-weight: 650; line-height: 1.35; }
p { margin: 0 0 1rem; max-width: 46rem; }
section { margin-top: 3rem; }
a { color: var(--accent); text-underline-offset: .2em; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 3px; }
.skip { position: absolute; left: -999rem; }
.skip:focus { position: static; }
.hidden {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap;
}
nav ul {
  display: flex; flex-wrap: wrap; gap: .2rem 1.3rem; margin: 1.4rem 0 0; padding: 0;
  list-style: none; font-size: .95rem;
}
nav a { display: inline-block; padding: .25rem 0; }

.tiles {
  display: flex; flex-wrap: wrap; gap: 1px; margin: 0; overflow: hidden;
  background: var(--line); border: 1px solid var(--line); border-radius: 12px;
}
.tiles > div { flex: 1 1 9rem; background: var(--surface); padding: .9rem 1.1rem 1rem; }
.tiles dt { color: var(--muted); font-size: .86rem; }
.tiles dd { margin: 0; }
.tiles .number {
  font-size: 1.9rem; font-weight: 640; line-height: 1.25; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums;
}
.tiles .note { color: var(--muted); font-size: .84rem; line-height: 1.4; }

.figures {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr));
  gap: 1.25rem; align-items: start;
}
figure, .card, .query {
  margin: 0; padding: 1.1rem 1.2rem; min-width: 0;
  background: var(--surface); border: 1px solid var(--line); border-radius: 12px;
}
figure svg { display: block; width: 100%; height: auto; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
svg text { font-variant-numeric: tabular-nums; }
figcaption { margin-top: .5rem; color: var(--muted); font-size: .9rem; line-height: 1.45; }
details { margin-top: .6rem; font-size: .9rem; }
summary { color: var(--accent); cursor: pointer; padding: .2rem 0; }

.scroll { overflow-x: auto; }
table {
  width: 100%; border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums;
}
caption { padding-bottom: .4rem; color: var(--muted); font-size: .9rem; text-align: left; }
th, td { padding: .42rem 1rem .42rem 0; text-align: right; vertical-align: top; }
th, td { overflow-wrap: normal; }
th:first-child, .words { text-align: left; }
th:last-child, td:last-child { padding-right: 0; }
td, .whole { white-space: nowrap; }
td.words { white-space: normal; }
thead th { border-bottom: 2px solid var(--line); color: var(--muted); font-weight: 600; }
tbody th { font-weight: 500; }
tbody tr + tr > * { border-top: 1px solid var(--line); }

.facts { margin: 0; }
.facts > div {
  display: grid; grid-template-columns: minmax(8.5rem, 14rem) 1fr; gap: .1rem 1.2rem;
  padding: .5rem 0; border-top: 1px solid var(--line);
}
.facts > div:first-child { border-top: 0; }
.facts dt { color: var(--muted); }
.facts dd { margin: 0; }

.samples { columns: 25rem; column-gap: 1.25rem; }
.samples > * { break-inside: avoid; }
.samples > * + * { margin-top: 1.25rem; }
.query h3 { font-size: 1.02rem; }
.query .label { color: var(--muted); font-size: .86rem; font-weight: 400; }
.found { margin: 0; padding: 0; list-style: none; }
.found li {
  display: grid; grid-template-columns: 1.3rem 1.6rem 1fr auto; gap: .1rem .4rem;
  align-items: baseline; padding: .34rem .4rem; border-radius: 6px; font-size: .93rem;
  line-height: 1.4;
}
.found li.right { background: var(--wash); }
.found .mark { align-self: start; width: 1.05rem; height: 1.05rem; margin-top: .14rem; }
.right .mark { color: var(--right); }
.wrong .mark { color: var(--wrong); }
.found .rank { color: var(--muted); text-align: right; font-variant-numeric: tabular-nums; }
.found .score {
  color: var(--muted); font-size: .84rem; font-variant-numeric: tabular-nums;
}
.gallery {
  display: grid; grid-template-columns: repeat(5, 1fr); gap: .7rem .6rem;
  margin: .8rem 0 0; padding: 0; list-style: none;
}
.gallery li { font-size: .8rem; line-height: 1.35; color: var(--muted); min-width: 0; }
.gallery img, .asked img {
  display: block; width: 100%; height: auto; aspect-ratio: 1; object-fit: contain;
  background: var(--page);
  border: 1px dashed var(--line); border-radius: 6px;
}
.gallery .right img { border: 3px solid var(--right); }
.gallery .wrong img { border: 1px dashed var(--wrong); }
.gallery .mark { width: .95rem; height: .95rem; vertical-align: -.15rem; }
.asked { width: 8rem; max-width: 100%; margin-bottom: .5rem; }
.pixels { image-rendering: pixelated; }

footer {
  margin-top: 3.5rem; padding-top: 1rem; border-top: 1px solid var(--line);
  color: var(--muted); font-size: .88rem;
}
@media (max-width: 30rem) {
  figure, .card, .query { padding: .9rem .9rem; border-radius: 10px; }
  .facts > div { grid-template-columns: 1fr; }
  .tiles .number { font-size: 1.6rem; }
  section { margin-top: 2.3rem; }
}
"""
_PRINT = """
@page { margin: 15mm 13mm; }
html { font-size: 8.5pt; }
body { max-width: none; padding: 0; background: none; }
nav, details, .skip { display: none; }
section { margin-top: 7mm; }
h2, h3, section > p { break-after: avoid; }
p { max-width: none; break-inside: avoid; }
figure, .card, .query, .tiles, tr, .found li { break-inside: avoid; }
figure, .card, .query { padding: 3mm 3.5mm; }
.figures { grid-template-columns: 1fr 1fr; gap: 4mm; }
.samples { columns: 1; }
.gallery { grid-template-columns: repeat(10, 1fr); }
a { color: inherit; text-decoration: none; }
* { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
"""

CSS = f"""
:root {{
color-scheme: light dark;
--font: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
{_LIGHT}}}
@media (prefers-color-scheme: dark) {{ :root {{{_DARK}}} }}
{_RULES}
@media print {{ :root {{ color-scheme: light;{_LIGHT}--page: #ffffff; }}{_PRINT}}}
"""
