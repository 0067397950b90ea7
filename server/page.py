"""The page of a report: style and layout. Flower packs no html files, hence strings.

Calm on a screen, on a telephone and on A4; nothing is fetched from anywhere. What is seldom needed is folded away.
"""

from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from server.wording import CAPTIONS, GUIDE

__all__ = ["CAPTIONS", "CSS", "GUIDE", "HTML", "MACROS", "render"]

CSS = """
:root { --ink:#1f2328; --muted:#5d646b; --rule:#d9dce0; --soft:#f5f6f7; --blue:#0072B2; --warn:#b3261e; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; color: var(--ink); background: #fff; font: 17px/1.6 Charter, "Bitstream Charter", "Iowan Old Style",
  "Source Serif 4", Cambria, Georgia, serif; }
.sans, table, figcaption, .facts, nav, .banner, h2, h3, .meta, .note {
  font-family: "Inter", "Segoe UI", "Helvetica Neue", Roboto, "DejaVu Sans", Arial, sans-serif; }
main { max-width: 1140px; margin: 0 auto; padding: 1.2rem 1.4rem 4rem; }
.banner { background: var(--warn); color: #fff; text-align: center; padding: .45rem 1rem; font-size: .82rem;
  letter-spacing: .04em; } .banner b { letter-spacing: .16em; }
h1 { font-size: 2rem; line-height: 1.2; margin: 1.6rem 0 .2rem; font-weight: 600; text-wrap: balance; }
.mark { color: var(--warn); font: 700 .8rem sans-serif; letter-spacing: .14em; vertical-align: middle; }
h2 { font-size: 1.12rem; margin: 3rem 0 .6rem; padding-top: .9rem; border-top: 1px solid var(--rule);
  font-weight: 650; }
h3 { font-size: .92rem; margin: 1.6rem 0 .3rem; }
p, ul, dl { max-width: 44rem; } li { margin: .3rem 0; }
.meta, .note { color: var(--muted); font-size: .82rem; line-height: 1.5; } .note { max-width: 52rem; }
nav { font-size: .8rem; line-height: 1.7; margin: 1rem 0 0; } nav b { display: none; }
nav a { color: var(--blue); text-decoration: none; margin-right: 1rem; display: inline-block; }
@media (min-width: 1400px) { body { padding-left: 15rem; } .banner { margin-left: -15rem; }
  nav { position: fixed; left: 1.8rem; top: 3.6rem; width: 12rem; margin: 0; max-height: 90vh; overflow-y: auto; }
  nav a { display: block; margin: 0; padding: .16rem 0; color: var(--muted); } nav a:hover { color: var(--blue); }
  nav b { display: block; color: var(--ink); margin-bottom: .3rem; } }
.finding { border-left: 4px solid var(--blue); padding: .1rem 0 .1rem 1.2rem; margin: 1.6rem 0; }
.finding p { max-width: 46rem; } .finding p:first-child { font-size: 1.28rem; line-height: 1.45; margin-top: 0; }
.finding p:last-child { margin-bottom: 0; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 1rem; margin: 1.6rem 0; }
.facts div { border-top: 2px solid var(--ink); padding-top: .5rem; } .facts span { display: block; font-size: .78rem;
  color: var(--muted); line-height: 1.4; } .facts b { font-size: 1.55rem; font-weight: 600; line-height: 1.3; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .8rem; line-height: 1.35; font-variant-numeric: tabular-nums;
  width: 100%; }
caption { text-align: left; color: var(--muted); padding-bottom: .5rem; }
th, td { text-align: right; padding: .45rem .55rem; vertical-align: top; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: normal; min-width: 8.5rem; }
thead th { border-bottom: 1.5px solid var(--ink); vertical-align: bottom; font-weight: 600; white-space: normal; }
tbody td, tbody th { border-bottom: 1px solid var(--rule); font-weight: 400; }
tbody tr.lead td, tbody tr.lead th { background: #eef5fa; font-weight: 600; } tbody tr.lead small { font-weight: 400; }
tbody tr.divider td { border-bottom: 1px solid var(--ink); color: var(--muted); padding-top: 1rem; }
td small { display: block; color: var(--muted); font-size: .72rem; } td.text { text-align: left; white-space: normal; }
th.text { text-align: left; } code { font-size: .82em; overflow-wrap: anywhere; }
figure { margin: 1.4rem 0 2rem; position: relative; } figure img { max-width: 100%; height: auto; display: block; }
figcaption { font-size: .8rem; color: var(--muted); max-width: 52rem; margin-top: .5rem; line-height: 1.5; }
figcaption b { color: var(--ink); }
.contact { background: var(--soft); padding: 1rem; } .contact .tag { position: absolute; top: 1rem; right: 1rem;
  background: var(--warn); color: #fff; font: 700 .7rem sans-serif; letter-spacing: .12em; padding: .15rem .5rem; }
.missing { background: var(--soft); border-left: 4px solid #E69F00; padding: .5rem 1rem; font-size: .92rem; }
.missing.loud { border-left-color: var(--warn); background: #fdeceb; font-size: 1.05rem; }
details { margin: .9rem 0; border-top: 1px solid var(--rule); border-bottom: 1px solid var(--rule); }
details + details { border-top: 0; margin-top: -.9rem; }
summary { cursor: pointer; padding: .5rem 0; font: .85rem "Inter", "Segoe UI", "Helvetica Neue", Roboto, "DejaVu Sans",
  Arial, sans-serif; color: var(--blue); } summary:hover { text-decoration: underline; }
th small { display: block; color: var(--muted); font-size: .72rem; font-weight: 400; }
dt { font-weight: 600; margin-top: .7rem; } dd { margin: 0; }
@media (max-width: 640px) { body { font-size: 16px; } main { padding: 1rem; } h1 { font-size: 1.5rem; }
  .finding p:first-child { font-size: 1.12rem; } .scroll img { width: 680px; max-width: none; }
  .facts { grid-template-columns: 1fr 1fr; }
  .scroll th:first-child, .scroll td:first-child { position: sticky; left: 0; background: #fff; min-width: 6.6rem;
    box-shadow: inset 0 -1px var(--rule); }
  .scroll tr.divider td { position: static; }
  caption span, tr.divider span { position: sticky; left: 0; display: inline-block; max-width: calc(100vw - 2rem);
    white-space: normal; }
  .scroll tr.lead th:first-child { background: #eef5fa; } }
@page { size: A4; margin: 14mm 13mm; }
@media print { html { font-size: 12px; } body { font-size: 10pt; line-height: 1.45; }
  main { max-width: none; padding: 0; } nav { display: none; } body { padding: 0; } .banner { margin: 0; }
  details::details-content { content-visibility: visible; block-size: auto; } details { border: 0; }
  summary { list-style: none; color: var(--ink); font-weight: 600; break-after: avoid; }
  h2 { margin-top: 1.4rem; } h2, h3, caption { break-after: avoid; }
  figure, tr, .finding, .facts { break-inside: avoid; }
  table { font-size: 7.2pt; } th, td { padding: .3rem .3rem; } td small { font-size: 6.4pt; }
  .scroll { overflow: visible; }
  th:first-child, td:first-child { min-width: 0; } .facts { grid-template-columns: repeat(4, 1fr); }
  .facts b { font-size: 1.25rem; } .banner, tbody tr.lead th, tbody tr.lead td { print-color-adjust: exact; }
  figure img { max-height: 98mm; } }
"""

MACROS = """
{% set counter = namespace(tables=0) %}
{% macro picture(figure, caption) %}{% if figure %}<figure><div class="scroll"><img src="{{ figure }}"
 alt="{{ caption[0] }} {{ caption[1] }}"></div><figcaption><b>{{ caption[0] }}</b>
 {{ caption[1] }}</figcaption></figure>{% else %}<p class="missing">Not drawn: {{ caption[0] }} This run
 does not hold the numbers for it.</p>{% endif %}{% endmacro %}
{% macro grid(table) %}{% if table.rows %}{% set counter.tables = counter.tables + 1 %}
<div class="scroll"><table><caption><span>Table {{ counter.tables }}. {{ table.caption }}</span></caption><thead><tr>
{% for head in table.head %}<th scope="col"{% if loop.index0 in table.text %} class="text"{% endif %}>{{ head }}</th>
{% endfor %}</tr></thead><tbody>{% for row in table.rows %}{% if row.divider %}<tr class="divider"><td
 colspan="{{ table.head | length }}"><span>{{ row.divider }}</span></td></tr>
{% else %}<tr{% if row.lead %} class="lead"{% endif %}>
{% for cell in row.cells %}{% if loop.first %}<th scope="row">{{ cell.main }}{% for line in cell.below %}<small>
{{ line }}</small>{% endfor %}</th>{% else %}<td{% if loop.index0 in table.text %} class="text"{% endif %}>
{{ cell.main }}{% for line in cell.below %}<small>{{ line }}</small>{% endfor %}</td>{% endif %}{% endfor %}</tr>
{% endif %}{% endfor %}</tbody></table></div>
{% else %}<p class="missing">{{ table.caption }} This run does not hold these numbers.</p>{% endif %}{% endmacro %}
{% macro folded(title, table) %}{% if table.rows %}<details><summary>{{ title }}</summary>{{ grid(table) }}</details>
{% endif %}{% endmacro %}
{% macro banner(synthetic) %}{% if synthetic == "mixed" %}<div class="banner"><b>SYNTHETIC AND OTHER PEOPLE</b> &nbsp;
 One of these runs is computer-made. Their difference is not evidence about patients.</div>
{% elif synthetic %}<div class="banner"><b>SYNTHETIC</b> &nbsp; Every participant, image and
 value in this report is computer-made. Not evidence about patients.</div>{% endif %}{% endmacro %}
"""

HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ "SYNTHETIC: " if synthetic }}{{ title }}</title><style>{{ css }}</style></head><body>
{{ banner(synthetic) }}
<main><h1>{{ title }}
{% if synthetic %} <span class="mark">SYNTHETIC</span>{% endif %}</h1><p class="meta">{{ subtitle }}</p>
"""

OPENING = (
    MACROS
    + HEAD
    + """
<nav><b>Contents</b>{% for anchor, name in contents.items() %}<a href="#{{ anchor }}">{{ name }}</a> {% endfor %}</nav>
<section class="finding" id="finding">{% for sentence in finding %}<p>{{ sentence }}</p>{% endfor %}</section>
"""
)
"""Contents and finding, with which every report begins."""

FACTS = """\
{% if facts %}<div class="facts">{% for fact in facts %}<div><b>{{ fact.number }}</b><span>{{ fact.words }}</span></div>
{% endfor %}</div>{% endif %}
"""
"""A few large numbers."""

HTML = (
    OPENING
    + """{% if absent %}<p class="missing">Incomplete run: {{ absent | join("; ") }}. The report shows what there
 is.</p>{% endif %}
"""
    + FACTS
    + """<h2 id="compare">The comparison</h2>{{ grid(ranking) }}<p class="note">{{ comparison_note }}</p>
{{ folded("Probabilities: Brier score and calibration of every way of training", probabilities) if long
 else grid(probabilities) }}
<h3>Against each other</h3>{{ grid(differences) }}<p class="note">{{ difference_note }}</p>
{{ folded("Further comparisons, not adjusted", further) }}
{% if folds.rows %}<h3>Fold by fold</h3>{{ grid(folds) }}{% endif %}
<h2 id="roc">ROC curves</h2>{{ picture(figures.roc, captions.roc) }}
<h2 id="calibration">Calibration</h2>{{ picture(figures.calibration, captions.calibration) }}
<h2 id="decision">What the probabilities are worth</h2>{{ picture(figures.decision, captions.decision) }}
<h2 id="sites">Hospital by hospital</h2>{{ picture(figures.forest, captions.forest) }}<p>{{ heterogeneity }}</p>
{{ grid(external) if external.rows else grid(by_hospital) if personal
 else folded("AUC of every way of training at every hospital", by_hospital) }}
{% if answers_words %}<h2 id="answers">From what the hospitals may send</h2>
{% for line in answers_words %}<p>{{ line }}</p>{% endfor %}
{% if figures.answers %}{{ picture(figures.answers, captions.answers) }}{% endif %}{{ grid(answers) }}{% endif %}
{% if subgroups.rows %}<h2 id="subgroups">Kinds of people</h2>{{ grid(subgroups) }}{% endif %}
{% for anchor, part in {"explanation": explanation, "masks": masks}.items() if part %}
<h2 id="{{ anchor }}">{{ part.title }}</h2>
{% for line in part.paragraphs %}<p>{{ line }}</p>{% endfor %}
{% for image in part.figures %}<figure><div class="scroll"><img src="{{ image.source }}" alt="{{ image.alt }}">
</div></figure>{% endfor %}
{% for table in part.tables %}{{ grid(table) if loop.first else folded(table.caption, table) }}{% endfor %}
{% endfor %}
{% if figures.learning or not cross %}<h2 id="learning">Learning curves</h2>
{{ picture(figures.learning, captions.learning) }}
{% endif %}
<h2 id="data">Who learned from whom</h2>{{ grid(sites) }}
{{ folded("Baseline characteristics", baseline) }}
{{ folded("What each way of training was given", arms) }}
{% if contact %}<details><summary>A sample of each hospital's images</summary>
{% for sheet in contact %}<figure class="contact">{% if synthetic %}<span class="tag">SYNTHETIC</span>{% endif %}
<img src="{{ sheet.image }}" alt="{{ images | capitalize }}, {{ sheet.site }}, with masks"><figcaption>
 <b>{{ sheet.site }}.</b> A sample of this hospital's images with the outlines of their masks.</figcaption></figure>
{% endfor %}</details>{% elif images %}<p class="missing">{{ no_contact }}</p>{% endif %}
<h2 id="privacy">Privacy: what left each hospital</h2>{% for line in privacy %}<p>{{ line }}</p>{% endfor %}
{% for table in protection %}{{ grid(table) }}{% endfor %}
{% if uncovered %}<details{{ " open" if protection }}><summary>What no epsilon covers</summary><ul>
{% for line in uncovered %}<li>{{ line }}</li>{% endfor %}</ul></details>{% endif %}
{% if leakage.rows %}{{ grid(leakage) }}{% endif %}
{% if traffic.rows %}{{ grid(traffic) }}{% endif %}
<h2 id="methods">Methods</h2><p>{{ methods }}</p>
<h2 id="limits">Limitations</h2><ul>{% for line in limitations %}<li>{{ line }}</li>{% endfor %}</ul>
<h2 id="guide">Reading guide</h2><dl>{% for word, meaning in guide.items() %}<dt>{{ word }}</dt><dd>{{ meaning }}</dd>
{% endfor %}</dl>
<h2 id="seeds">Each seed, versions and settings</h2>{{ folded("Each seed", seeds) }}
{{ folded("Where the numbers come from", provenance) }}{{ folded("The study file", settings) }}
</main></body></html>
"""
)


def render(template: str, **parts: Any) -> str:
    """Fill a page; a part that is not given is an error. The style is the same for all pages."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = environment.from_string(template).render(css=Markup(CSS), **parts)  # noqa: S704 - our own constant
    return page.replace(" %", "\N{NO-BREAK SPACE}%")
