"""The page of a report: style, layout and the words that never change. Flower packs no html files, hence a string.

Calm on a screen, on a telephone and on A4; nothing is fetched from anywhere.
"""

CSS = """
:root { --ink:#1f2328; --muted:#5d646b; --rule:#d9dce0; --soft:#f5f6f7; --blue:#0072B2; --warn:#b3261e; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; color: var(--ink); background: #fff; font: 17px/1.6 Charter, "Bitstream Charter", "Iowan Old Style",
  "Source Serif 4", Cambria, Georgia, serif; }
.sans, table, figcaption, .facts, nav, .banner, h2, h3, .meta, .note {
  font-family: "Inter", "Segoe UI", "Helvetica Neue", Roboto, "DejaVu Sans", Arial, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 1.2rem 1.4rem 4rem; }
.banner { background: var(--warn); color: #fff; text-align: center; padding: .45rem 1rem; font-size: .82rem;
  letter-spacing: .04em; } .banner b { letter-spacing: .16em; }
h1 { font-size: 2rem; line-height: 1.2; margin: 1.6rem 0 .2rem; font-weight: 600; text-wrap: balance; }
.mark { color: var(--warn); font: 700 .8rem sans-serif; letter-spacing: .14em; vertical-align: middle; }
h2 { font-size: 1.12rem; margin: 3rem 0 .6rem; padding-top: .9rem; border-top: 1px solid var(--rule);
  font-weight: 650; }
h3 { font-size: .92rem; margin: 1.6rem 0 .3rem; }
p, ul, dl { max-width: 44rem; } li { margin: .3rem 0; }
.meta, .note { color: var(--muted); font-size: .82rem; line-height: 1.5; } .note { max-width: 52rem; }
nav { font-size: .8rem; margin: 1rem 0 0; } nav a { color: var(--blue); text-decoration: none; margin-right: 1rem;
  white-space: nowrap; }
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
dt { font-weight: 600; margin-top: .7rem; } dd { margin: 0; }
@media (max-width: 640px) { body { font-size: 16px; } main { padding: 1rem; } h1 { font-size: 1.5rem; }
  .finding p:first-child { font-size: 1.12rem; } .scroll img { width: 680px; max-width: none; }
  .facts { grid-template-columns: 1fr 1fr; }
  .scroll th:first-child, .scroll td:first-child { position: sticky; left: 0; background: #fff; min-width: 6.6rem; }
  .scroll tr.lead th:first-child { background: #eef5fa; } }
@page { size: A4; margin: 14mm 13mm; }
@media print { html { font-size: 12px; } body { font-size: 10pt; line-height: 1.45; }
  main { max-width: none; padding: 0; } nav { display: none; }
  h2 { margin-top: 1.4rem; } h2, h3, caption { break-after: avoid; }
  figure, tr, .finding, .facts { break-inside: avoid; }
  table { font-size: 7.2pt; } th, td { padding: .3rem .3rem; } td small { font-size: 6.4pt; }
  .scroll { overflow: visible; }
  th:first-child, td:first-child { min-width: 0; } .facts { grid-template-columns: repeat(4, 1fr); }
  .facts b { font-size: 1.25rem; } .banner, tbody tr.lead th, tbody tr.lead td { print-color-adjust: exact; }
  figure img { max-height: 98mm; } }
"""

CAPTIONS = {
    "roc": (
        "Sensitivity against specificity.",
        "All thresholds traded off, on the central test people: the further up and left, the better; the grey diagonal "
        "is a coin. Lines are means over seeds, the blue band is the range of the federated seeds. The circle is the "
        "federated model at the threshold that was frozen on training participants.",
    ),
    "calibration": (
        "Does a predicted probability mean what it says?",
        "Central test people in ten groups of equal size, by predicted probability. On the diagonal, 30 of 100 people "
        "given 30 % have sarcopenia; below it the model claims too much, above it too little. Bars: 95 % interval "
        "(mean over seeds). Grey columns: how many people are given which probability.",
    ),
    "learning": (
        "Learning, round by round.",
        "AUC above, loss below, on each hospital's own validation people and on the central test people. Lines are "
        "means over seeds, bands their range. Validation groups are small, so single steps mean little.",
    ),
    "forest": (
        "Hospital by hospital.",
        "AUC on each hospital's own held-out people; bars are 95 % intervals (mean over seeds). The diamond pools the "
        "federated model's hospitals (random effects, Hartung-Knapp). With five hospitals or more, a dashed line says "
        "where a further, similar hospital would fall with 95 % probability.",
    ),
}

GUIDE = {
    "AUC": "Take one person with sarcopenia and one without. The AUC is the chance that the model gives the higher "
    "probability to the one who has it: .5 is a coin, 1 is never wrong.",
    "95 % interval": "The values that fit these data. If the same study were repeated on other people, 95 of 100 such "
    "intervals would hold the true value. A wide interval means: too few people to say.",
    "Sensitivity and specificity": "Of the people with sarcopenia, the share that is found; of the people without, the "
    "share that is correctly cleared. Both hold at one threshold, frozen on training participants.",
    "F1": "Balance of finding people and being right about them; 1 is best. Positive: for sarcopenia only. Macro: mean "
    "of both classes. Papers mix the two, and they are not comparable.",
    "Brier score": 'Mean squared error of the probability, 0 is best. The row "Prevalence only" shows what knowing '
    "nothing about a person scores.",
    "Calibration intercept and slope": "Ideal are 0 and 1. An intercept above 0: risks are claimed too low; below 0: "
    "too high. A slope below 1: probabilities are too extreme.",
    "Seed": "The number that starts all random choices. Training again with another seed shows how much of a result is "
    "luck of the draw; one seed alone proves little.",
    "Negative controls": "Simple guesses that a useful model must beat. If the number of images alone predicted the "
    "disease, the data would carry a clue that no patient has.",
}

HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ "SYNTHETIC: " if synthetic }}{{ meta.title }}</title><style>{{ css }}</style></head><body>
{% macro picture(name) %}{% if figures[name] %}<figure><div class="scroll"><img src="{{ figures[name] }}"
 alt="{{ captions[name][0] }} {{ captions[name][1] }}"></div><figcaption><b>{{ captions[name][0] }}</b>
 {{ captions[name][1] }}</figcaption></figure>{% else %}<p class="missing">Not drawn: {{ captions[name][0] }} This run
 does not hold the numbers for it.</p>{% endif %}{% endmacro %}
{% macro grid(table) %}{% if table.rows %}<div class="scroll"><table><caption>{{ table.caption }}</caption><thead><tr>
{% for head in table.head %}<th scope="col"{% if loop.index0 in table.text %} class="text"{% endif %}>{{ head }}</th>
{% endfor %}</tr></thead><tbody>{% for row in table.rows %}{% if row.divider %}<tr class="divider"><td
 colspan="{{ table.head | length }}">{{ row.divider }}</td></tr>{% else %}<tr{% if row.lead %} class="lead"{% endif %}>
{% for cell in row.cells %}{% if loop.first %}<th scope="row">{{ cell.main }}</th>{% else %}<td
{%- if loop.index0 in table.text %} class="text"{% endif %}>{{ cell.main }}{% for line in cell.below %}<small>{{ line }}
</small>{% endfor %}</td>{% endif %}{% endfor %}</tr>{% endif %}{% endfor %}</tbody></table></div>
{% else %}<p class="missing">{{ table.caption }} This run does not hold these numbers.</p>{% endif %}{% endmacro %}
{% if synthetic %}<div class="banner"><b>SYNTHETIC</b> &nbsp; Every participant, image and value in this report is
 computer-made. Not evidence about patients.</div>{% endif %}
<main><h1>{{ meta.title }}
{% if synthetic %} <span class="mark">SYNTHETIC</span>{% endif %}</h1><p class="meta">{{ subtitle }}</p>
<nav><a href="#compare">Comparison</a><a href="#roc">ROC</a><a href="#calibration">Calibration</a>
<a href="#sites">Hospital by hospital</a><a href="#learning">Learning</a><a href="#data">Who learned from whom</a>
<a href="#privacy">Privacy</a><a href="#methods">Methods</a><a href="#limits">Limitations</a><a href="#guide">Reading
 guide</a></nav>
<section class="finding" id="finding">{% for sentence in finding %}<p>{{ sentence }}</p>{% endfor %}</section>
{% if absent %}<p class="missing">Incomplete run: {{ absent | join("; ") }}. The report shows what there
 is.</p>{% endif %}
{% if facts %}<div class="facts">{% for fact in facts %}<div><b>{{ fact.number }}</b><span>{{ fact.words }}</span></div>
{% endfor %}</div>{% endif %}
<h2 id="compare">The comparison</h2>{{ grid(comparison) }}<p class="note">{{ comparison_note }}</p>
<h3>Against each other</h3>{{ grid(differences) }}<p class="note">{{ difference_note }}</p>
<h2 id="roc">ROC curves</h2>{{ picture("roc") }}
<h2 id="calibration">Calibration</h2>{{ picture("calibration") }}
<h2 id="sites">Hospital by hospital</h2>{{ picture("forest") }}<p>{{ heterogeneity }}</p>
<h2 id="learning">Learning curves</h2>{{ picture("learning") }}
<h2 id="data">Who learned from whom</h2>{{ grid(sites) }}{{ grid(arms) }}
{% for sheet in contact %}<figure class="contact">{% if synthetic %}<span class="tag">SYNTHETIC</span>{% endif %}
<img src="{{ sheet.image }}" alt="Ultrasound images of {{ sheet.site }} with their masks"><figcaption>
 <b>{{ sheet.site }}.</b> A sample of this hospital's images with the delineated muscle.</figcaption></figure>{% else %}
<p class="missing">{{ no_contact }}</p>{% endfor %}
<h2 id="privacy">Privacy: what left each hospital</h2>{% for line in privacy %}<p>{{ line }}</p>{% endfor %}
{{ grid(traffic) }}
<h2 id="methods">Methods</h2><p>{{ methods }}</p>
<h2 id="limits">Limitations</h2><ul>{% for line in limitations %}<li>{{ line }}</li>{% endfor %}</ul>
<h2 id="guide">Reading guide</h2><dl>{% for word, meaning in guide.items() %}<dt>{{ word }}</dt><dd>{{ meaning }}</dd>
{% endfor %}</dl>
<h2 id="seeds">Each seed</h2>{{ grid(seeds) }}
<h2 id="versions">Versions and settings</h2>{{ grid(provenance) }}{{ grid(settings) }}
</main></body></html>
"""
