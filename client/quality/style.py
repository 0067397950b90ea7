"""How the page of a data check looks, and its few lines of script. Flower packs no css files, hence strings.

Calm on a screen, on a telephone and on A4. Without the script everything can be read; it only filters and unfolds.
"""

CSS = """
:root { --ink:#1f2328; --muted:#57606a; --rule:#d9dce0; --soft:#f5f6f7; --blue:#0059a3; --error:#b3261e;
  --warning:#7a4f00; --note:#0059a3; --good:#0a5c47; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; color: var(--ink); background: #fff; font: 15px/1.55 "Inter", "Segoe UI", "Helvetica Neue", Roboto,
  "Liberation Sans", "DejaVu Sans", Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 1.2rem 1.4rem 4rem; }
a { color: var(--blue); }
:focus-visible { outline: 2.5px solid var(--blue); outline-offset: 2px; border-radius: 2px; }
[hidden] { display: none !important; }
.banner { background: var(--error); color: #fff; text-align: center; padding: .45rem 1rem; font-size: .84rem;
  letter-spacing: .04em; }
.banner b { letter-spacing: .16em; }
h1 { font-size: 1rem; font-weight: 650; margin: 1.2rem 0; }
h1 span { color: var(--muted); font-weight: 400; }
h2 { font-size: 1.35rem; line-height: 1.3; margin: 3.4rem 0 .7rem; padding-top: 1.1rem; font-weight: 650;
  border-top: 1px solid var(--rule); }
h3 { font-size: 1.02rem; margin: 2rem 0 .5rem; font-weight: 650; }
p { max-width: 46rem; margin: .5rem 0; }
ul { list-style: none; padding: 0; margin: .6rem 0; }
.meta { color: var(--muted); font-size: .87rem; }
code { font: .92em "SF Mono", Consolas, "Liberation Mono", "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }

.verdict { display: grid; grid-template-columns: auto 1fr; gap: 0 1.2rem; padding: 1.5rem 1.6rem; font-size: 1rem;
  border: 1px solid; border-left-width: 8px; border-radius: 8px; }
.verdict svg { width: 3.2rem; height: 3.2rem; }
.verdict p { margin: .25rem 0; max-width: 52rem; }
.verdict .large { font-size: 2.1rem; line-height: 1.15; font-weight: 700; margin: 0 0 .4rem; text-wrap: balance; }
.verdict .next { margin-top: .7rem; }
.may-join { background: #f0f8f5; border-color: var(--good); }
.may-join .large, .may-join svg { color: var(--good); }
.errors { background: #fdf4f3; border-color: var(--error); }
.errors .large, .errors svg { color: var(--error); }
.cannot-check { background: var(--soft); border-color: var(--ink); }
.counts { display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); gap: 1.2rem; margin: 1.6rem 0; }
.counts > div { border-top: 2px solid var(--ink); padding-top: .5rem; }
.counts dt { font-size: .87rem; }
.counts dd { margin: 0; }
.counts .n { font-size: 1.8rem; line-height: 1.25; font-weight: 650; }
.counts .n small { font-size: 1rem; font-weight: 400; color: var(--muted); }
nav { font-size: .9rem; display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; margin: 1.4rem 0 0; }

.sev { display: inline-flex; align-items: center; gap: .35em; font-weight: 650; white-space: nowrap; }
.sev svg { width: 1.05em; height: 1.05em; flex: none; }
.sev.error { color: var(--error); }
.sev.warning { color: var(--warning); }
.sev.note { color: var(--note); }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .87rem; line-height: 1.4; font-variant-numeric: tabular-nums;
  width: 100%; }
th, td { text-align: left; padding: .4rem .9rem .4rem 0; vertical-align: top; }
th.num, td.num { text-align: right; white-space: nowrap; }
thead th { border-bottom: 1.5px solid var(--ink); vertical-align: bottom; font-weight: 600; }
tbody td, tbody th { border-bottom: 1px solid var(--rule); font-weight: 400; overflow-wrap: break-word; }
tbody th { min-width: 8rem; }

.group { border: 1px solid var(--rule); border-left: 5px solid; border-radius: 6px; margin: .8rem 0;
  padding: 0 1.3rem; }
.group.note { margin: .5rem 0; }
.group.note > summary { padding: .55rem 0; }
.group.error { border-left-color: var(--error); }
.group.warning { border-left-color: #d99a00; }
.group.note { border-left-color: #6aa5d8; }
.group > summary { padding: .85rem 0; cursor: pointer; display: flex; flex-wrap: wrap; align-items: center;
  gap: .2rem .9rem; list-style: none; }
.group > summary::-webkit-details-marker { display: none; }
.group > summary::before { content: "▸"; color: var(--muted); width: .8em; }
.group[open] > summary::before { content: "▾"; }
.group h4 { font-size: 1.06rem; margin: 0; font-weight: 650; }
.group .many { color: var(--muted); margin-left: auto; white-space: nowrap; }
.group .body { padding-bottom: 1.2rem; }
.group .why { margin: 0 0 .6rem; max-width: 54rem; }
.group td { overflow-wrap: anywhere; }
.group td.place { min-width: 6.5rem; }
.group td.words { min-width: 9rem; }
.todo { background: var(--soft); padding: .6rem .9rem; border-radius: 4px; max-width: none; margin: .8rem 0; }
.todo b { margin-right: .4em; }
.lifted { font-size: .87rem; max-width: none; }
.lifted span { margin-right: 1.4em; color: var(--muted); }
.lifted b { font-weight: 600; color: var(--ink); }
.files, .rows { font-size: .87rem; font-variant-numeric: tabular-nums; }
.files { columns: 3 15rem; column-gap: 2rem; }
.files li { padding: .12rem 0; overflow-wrap: anywhere; break-inside: avoid; }
.files span { color: var(--muted); margin-left: .5em; }
.rows { display: flex; flex-wrap: wrap; gap: .2rem 1.1em; }
.rows::before { content: "Rows"; color: var(--muted); }
.more > summary { cursor: pointer; color: var(--blue); font-size: .9rem; padding: .45rem 0; }
.sift { display: none; }
.js .sift { display: flex; flex-wrap: wrap; gap: .5rem 1.2rem; align-items: center; background: var(--soft);
  border-radius: 6px; padding: .6rem .9rem; margin: 1rem 0; font-size: .9rem; }
.sift label { display: inline-flex; gap: .4em; align-items: center; }
.sift [type=search] { font: inherit; padding: .3rem .6rem; border: 1px solid #868e96; border-radius: 4px;
  width: 15rem; max-width: 60vw; }
.sift output { color: var(--muted); margin-left: auto; }

.thumbs { display: grid; grid-template-columns: repeat(auto-fill, minmax(116px, 1fr)); gap: .7rem;
  margin: 1rem 0 .4rem; }
.thumbs figure { margin: 0; }
.thumbs img { width: 100%; aspect-ratio: 1; object-fit: contain; background: #111; display: block; border-radius: 3px; }
.thumbs figcaption { font-size: .78rem; color: var(--muted); line-height: 1.35; margin-top: .2rem; }
.contact .thumbs { grid-template-columns: repeat(6, 1fr); }
.contact h3 { font-size: .93rem; margin: 1.5rem 0 .2rem; font-weight: 600; }
.contact h3 span { color: var(--muted); font-weight: 400; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(270px, 1fr)); gap: 1.9rem 2.2rem;
  margin: 1.3rem 0; }
.cards figure { margin: 0; }
.cards figcaption { font-size: .9rem; font-weight: 600; margin-bottom: .3rem; overflow-wrap: anywhere; }
.cards figcaption span { color: var(--muted); font-weight: 400; }
.cards p { font-size: .8rem; color: var(--muted); margin: .2rem 0 0; line-height: 1.45; }
svg text { font-size: 10.5px; fill: var(--muted); font-variant-numeric: tabular-nums; }
svg.dist { width: 100%; max-width: 340px; height: auto; display: block; }
svg.share { width: 110px; height: 11px; margin-right: .6em; }
svg.strip { width: 100%; height: 17px; display: block; }
svg.grey { width: 150px; height: 41px; display: block; }
.map td, .map th { padding-top: .16rem; padding-bottom: .16rem; vertical-align: middle; }
.map tbody td, .map tbody th { border-bottom: 0; white-space: nowrap; }
.map td.strip { width: 62%; min-width: 220px; padding-right: 0; }
.map thead th { padding-bottom: .4rem; }
.key { display: inline-block; width: 1.6em; height: .8em; vertical-align: -.05em; margin: 0 .3em 0 .6em; }
.key.there { background: #dfe9f1; }
.key.gone { background: var(--ink); }
.checks { columns: 2 20rem; }
.checks li { padding: .2rem 0 .2rem 1.7em; text-indent: -1.7em; break-inside: avoid; }
.checks svg { width: 1em; height: 1em; vertical-align: -.12em; margin-right: .7em; }
.ran svg { color: var(--good); }
.idle { color: var(--muted); }

@media (max-width: 640px) {
  main { padding: 1rem; }
  h2 { margin-top: 2.4rem; }
  .verdict { grid-template-columns: 1fr; padding: 1.1rem; }
  .verdict .large { font-size: 1.55rem; margin-top: .4rem; }
  .verdict svg { width: 2.4rem; height: 2.4rem; }
  .counts { grid-template-columns: 1fr 1fr; }
  .group { padding: 0 .9rem; }
  .group .many { margin-left: 1.7em; width: 100%; }
  .contact .thumbs { grid-template-columns: repeat(3, 1fr); }
  .map .of, .glance .where { display: none; }
  .map tbody th { white-space: normal; min-width: 6rem; overflow-wrap: anywhere; }
  .map td.strip { min-width: 120px; }
}
@page { size: A4; margin: 14mm 13mm; }
@media print {
  body { font-size: 9.5pt; line-height: 1.4; }
  main { max-width: none; padding: 0; }
  nav, .js .sift, .more { display: none; }
  h2 { margin-top: 1.6rem; font-size: 13pt; }
  h2, h3, .group > summary { break-after: avoid; }
  tr, figure, .verdict, .counts, .todo { break-inside: avoid; }
  table { font-size: 7.6pt; }
  .scroll { overflow: visible; }
  .verdict .large { font-size: 18pt; }
  .counts { grid-template-columns: repeat(5, 1fr); }
  .counts .n { font-size: 14pt; }
  .cards { grid-template-columns: repeat(3, 1fr); gap: 1rem 1.2rem; }
  .thumbs { grid-template-columns: repeat(8, 1fr); gap: .3rem; }
  .banner, .verdict, .todo, .key, svg, .thumbs img { print-color-adjust: exact; }
  svg.grey { width: 90px; height: auto; }
}
"""

SCRIPT = """
document.documentElement.classList.add("js");
const all = (css, root = document) => [...root.querySelectorAll(css)], words = document.getElementById("words");
function sift() {
  const text = words.value.trim().toLowerCase(), holds = e => e.textContent.toLowerCase().includes(text);
  const on = all(".sift [value]").filter(box => box.checked).map(box => box.value);
  let places = 0;
  for (const group of all(".group")) {
    const whole = all(":scope > summary, .lifted", group).some(holds);
    const listed = all("tbody tr, .files li, .rows li", group);
    listed.forEach(place => place.hidden = !(whole || holds(place)));
    const here = whole ? +group.dataset.places : listed.filter(place => !place.hidden).length;
    group.hidden = !here || !on.includes(group.dataset.severity);
    if (!group.hidden) places += here;
    if (text) [group, ...all("details", group)].forEach(part => part.open = true);
  }
  document.getElementById("sifted").textContent = places + (places === 1 ? " place" : " places");
}
function unfold() {
  const target = document.getElementById(location.hash.slice(1));
  if (target && target.matches("details")) { target.open = true; target.scrollIntoView(); }
}
if (words) { all(".sift input").forEach(input => input.addEventListener("input", sift)); sift(); }
addEventListener("hashchange", unfold);
unfold();
"""
