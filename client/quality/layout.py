"""The order of things on the page of a data check, and the words that never change; ``page`` fills it in.

Headings skip no level, drawings have words, severity is written and never a colour alone. The browser is told that the
page may use its own style, its own script and the pictures that it carries, and may load nothing.
"""

HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<title>{{ "SYNTHETIC: " if report.synthetic }}{{ verdict.title }} · {{ report.site }}</title>
<style>{{ css }}</style></head><body>

{% macro icon(name) %}<svg viewBox="0 0 16 16" aria-hidden="true" fill="currentColor">
{% if name == "error" %}
<path d="M5 .5h6L15.5 5v6L11 15.5H5L.5 11V5z"/><path d="M7 3.5h2v6H7zM7 11h2v2H7z" fill="#fff"/>
{% elif name == "warning" %}
<path d="M8 .8 15.8 15H.2z"/><path d="M7.2 5.5h1.6v5H7.2zM7.2 11.6h1.6v1.7H7.2z" fill="#fff"/>
{% elif name == "note" %}
<circle cx="8" cy="8" r="7.5"/><path d="M7 6.8h2V13H7zM7 3.2h2v2H7z" fill="#fff"/>
{% elif name == "good" %}
<circle cx="8" cy="8" r="7.5"/><path d="m4.5 8.2 2.5 2.5 4.7-5" fill="none" stroke="#fff" stroke-width="1.8"/>
{% else %}
<circle cx="8" cy="8" r="7.5"/><path d="M4.5 7.1h7v1.8h-7z" fill="#fff"/>
{% endif %}</svg>{% endmacro %}

{% macro sev(severity) %}<span class="sev {{ severity }}">{{ icon(severity) }}{{ severities[severity] }}</span>
{%- endmacro %}

{% macro several(number, noun) %}{{ counted(number) }} {{ noun }}{{ "" if number == 1 else "s" }}{% endmacro %}

{% macro thumbs(pictures) %}<ul class="thumbs">
{% for p in pictures %}
<li><figure><img src="{{ p.source }}" alt="Ultrasound image, {{ p.words }}">
<figcaption>{{ p.words }}</figcaption></figure></li>
{% endfor %}
</ul>{% endmacro %}

{% macro heads(names) %}<thead><tr>
{% for name in names %}
<th scope="col" class="{{ kinds[name] }}">{{ name }}</th>
{% endfor %}
</tr></thead>{% endmacro %}

{% macro listing(part, rows) %}
{% if part.listed %}
<ul class="{{ "rows" if part.head == ("Row",) else "files" }}">
{% for row in rows %}
<li>{{ row[0] }}{% if row[1:] %} <span>row {{ row[1] }}</span>{% endif %}</li>
{% endfor %}
</ul>
{% else %}
<div class="scroll"><table>{{ heads(part.head) }}<tbody>
{% for row in rows %}
<tr>{% for cell in row %}{% set name = part.head[loop.index0] %}<td class="{{ kinds[name] }}">
{%- if name == "Column" and cell %}<code>{{ cell }}</code>{% else %}{{ cell }}{% endif %}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endif %}
{% endmacro %}

{% macro places(part) %}
{% if part.remedy %}<p class="todo"><b>What to do:</b> {{ sentence(part.remedy) }}</p>{% endif %}

{% if part.lifted %}
<p class="lifted">{% for name, value in part.lifted %}<span>{{ name }}: <b>{{ value }}</b></span> {% endfor %}</p>
{% endif %}
{{ listing(part, part.rows[:part.open]) }}
{% set folded = part.rows | length - part.open %}
{% if folded > 0 %}
<details class="more"><summary>{{ several(folded, "more place") }}</summary>
{{ listing(part, part.rows[part.open:]) }}</details>
{% endif %}
{% if part.left_out %}
<p class="meta">{{ several(part.left_out, "further place") }} not listed here: run the check with
 <code>--json FILE</code> for all of them.</p>
{% endif %}
{% endmacro %}

{% macro card(d) %}<figure><figcaption>{{ d.name }}{% if d.unit %} <span>{{ d.unit }}</span>{% endif %}</figcaption>
{{ d.drawing }}<p>{{ d.words }}
{%- if d.refused %} · <a href="#error-range">{{ counted(d.refused) }} refused</a>{% endif %}</p></figure>{% endmacro %}

{% if report.synthetic %}
<div class="banner"><b>SYNTHETIC</b> &nbsp; Every participant, image and value in this report is computer-made. Not
 evidence about patients.</div>
{% endif %}
<main><h1>Data check of {{ report.site or "this site" }} <span>for the study: {{ report.title }}</span></h1>
<section class="verdict {{ verdict.kind }}" aria-label="Verdict">{{ icon(verdict.icon) }}<div>
<p class="large">{{ verdict.title }}</p><p>{{ verdict.why }}</p><p class="next"><b>Next:</b> {{ verdict.next }}</p>
</div></section>

{% if counts %}
<dl class="counts">
{% for c in counts %}
<div><dt>{{ c.what }}</dt><dd><span class="n">{{ c.number }}{% if c.of %} <small>of {{ c.of }}</small>{% endif %}</span>
{% for line in c.below %}<div class="meta">{{ line }}</div>{% endfor %}</dd></div>
{% endfor %}
</dl>
{% endif %}
<nav aria-label="Parts of this page">
{% for anchor, words in parts.items() %}
<a href="#{{ anchor }}">{{ words }}</a>
{% endfor %}
</nav>

{% if groups | length > few %}
<h2 id="glance">Findings at a glance</h2>
<div class="scroll"><table class="glance"><thead><tr><th scope="col">Severity</th><th scope="col">What was found</th>
<th scope="col" class="where">Where</th><th scope="col" class="num">Places</th></tr></thead><tbody>
{% for g in groups %}
<tr><td>{{ sev(g.severity) }}</td><th scope="row"><a href="#{{ g.severity }}-{{ g.rule }}">{{ g.title }}</a></th>
<td class="where">{{ g.where }}</td><td class="num">{{ counted(g.places) }}</td></tr>
{% endfor %}
</tbody></table></div>
{% endif %}

<h2 id="findings">Findings{{ ", and what to do" if groups }}</h2>
{% if groups %}
<p class="meta">A row is the line of the table as a spreadsheet counts: the header is row 1. Rows of images are those of
 images.csv. Nothing was changed in your files.</p>
{% else %}
<p>Nothing was found.{% if checks %} What was looked for is listed <a href="#checks">below</a>.{% endif %}</p>
{% endif %}
{% if groups | length > few %}
<form class="sift" aria-label="Show only some findings">
{% for s in severities if s in grades %}
<label><input type="checkbox" value="{{ s }}" checked>{{ sev(s) }}</label>
{% endfor %}
<label>Only with the words <input type="search" id="words" placeholder="a column, a file, a row"></label>
<output id="sifted"></output></form>
{% endif %}
{% for s in severities if s in grades %}
<h3>{{ sections[s] }}</h3>
{% for g in groups if g.severity == s %}
<details class="group {{ s }}" id="{{ s }}-{{ g.rule }}" data-severity="{{ s }}" data-places="{{ g.places }}"
 {{- " open" if s != "note" }}><summary>{{ sev(s) }}<h4>{{ g.title }}</h4>
<span class="many">{{ several(g.places, "place") }}</span></summary>
<div class="body">{% if g.why %}<p class="why">{{ g.why }}</p>{% endif %}

{% for part in g.parts %}{{ places(part) }}{% endfor %}
{% if g.pictures %}{{ thumbs(g.pictures) }}{% endif %}
{% if g.more_pictures %}<p class="meta">{{ several(g.more_pictures, "more image") }} not shown here.</p>{% endif %}
</div></details>
{% endfor %}
{% endfor %}

{% if report.muscles %}
<h2 id="muscles">Muscles</h2>
<p class="meta">Usable images only. Where images.csv does not say what was looked for (column <code>annotated</code>),
 it is every muscle that any mask of this hospital holds; a muscle that nobody looked for is not learned as absent.</p>
<div class="scroll"><table><thead><tr><th scope="col">Muscle</th><th scope="col">Outline</th>
<th scope="col" class="num">Images: drawn</th><th scope="col" class="num">Images: looked for</th>
<th scope="col" class="num">People: drawn</th></tr></thead><tbody>
{% for m in report.muscles %}
<tr><th scope="row">{{ m.title }}</th><td><svg width="34" height="10" role="img" aria-label="colour of its outline">
<path d="M0 5H34" stroke="{{ m.colour }}" stroke-width="4"/></svg></td><td class="num">{{ counted(m.drawn) }}</td>
<td class="num">{{ counted(m.looked_for) }}</td><td class="num">{{ counted(m.people) }}</td></tr>
{% endfor %}
</tbody></table></div>
{% endif %}
{% if distributions %}
<h2 id="values">Values, against what is plausible</h2>
<p class="meta">One picture for each feature of the study, one value per participant. Columns show how many people have
 which value, positive ones (label 1, who have what the study looks for) above negative ones (label 0); the upright
 line is the median. The line below is the study's plausible range, and its thick part is what the columns magnify: a
 wrong unit shows as a thick part in an odd place. A class of fewer than {{ fewest }} is drawn
 together with the other.</p>
<div class="cards">{% for d in distributions %}{{ card(d) }}{% endfor %}</div>
{% endif %}
{% if shares %}
<h3>Yes/no features and categories</h3>
<div class="scroll"><table><thead><tr><th scope="col">Feature</th>
<th scope="col" colspan="2">Share with yes</th><th scope="col" class="num">Missing</th></tr></thead><tbody>
{% for s in shares %}
<tr><th scope="row">{{ s.name }}</th>
{%- for bar, words in s.bars %}<td{% if s.bars | length == 1 %} colspan="2"{% endif %}>{{ bar }}{{ words }}</td>
{%- endfor %}<td class="num">{{ s.missing }}</td></tr>
{% endfor %}
</tbody></table></div>
{% endif %}

{% if gaps %}
<h2 id="missing">Missing values</h2>
<p class="meta">Each column of the map is {{ map_column }}; those who miss most stand on the left.
 <span class="key there"></span>value present <span class="key gone"></span>missing.</p>
<div class="scroll"><table class="map"><thead><tr><th scope="col">Feature</th><th scope="col" class="num">Missing</th>
{% for label in gap_labels %}
<th scope="col" class="num of">{{ label }}</th>
{% endfor %}
<th scope="col">Participants</th></tr></thead><tbody>
{% for g in gaps %}
<tr><th scope="row">{{ g.name }}</th><td class="num">{{ g.missing }}</td>
{%- for share in g.of_class %}<td class="num of">{{ share }}</td>{% endfor %}<td class="strip">{{ g.strip }}</td></tr>
{% endfor %}
</tbody></table></div>
{% if emptiest %}<p class="meta">{{ emptiest }}</p>{% endif %}
{% endif %}

{% if devices %}
<h2 id="devices">Devices</h2>
<div class="scroll"><table><thead><tr><th scope="col">Device</th><th scope="col">Transducer</th>
<th scope="col">Format</th><th scope="col" class="num">Images</th><th scope="col" class="num">People</th>
<th scope="col">Spacing,<br>mm per pixel</th><th scope="col">Spacing from</th><th scope="col">Tissue region from</th>
<th scope="col" class="num">Median grey</th><th scope="col">Grey levels, black to white</th></tr></thead><tbody>
{% for d in devices %}
<tr><th scope="row">{{ d.name }}</th><td>{{ d.transducer }}</td><td>{{ d.format }}</td>
<td class="num">{{ d.images }}</td><td class="num">{{ d.people }}</td><td>{{ d.spacing }}</td>
<td>{{ d.spacing_from }}</td><td>{{ d.region_from }}</td>
<td class="num">{{ d.grey }}</td><td>{{ d.curve }}</td></tr>
{% endfor %}
</tbody></table></div>
{% if more_devices %}<p class="meta">{{ several(more_devices, "more device") }} not listed.</p>{% endif %}

<p class="meta">Grey levels are those of the tissue region, 0 = black, 255 = white; the upright line is the median. A
 device whose hill lies elsewhere than the others' was set brighter or darker.</p>
{% endif %}
{% if sizes %}
<h3>Measured inside the masks</h3>
<p class="meta">One value per participant: the mean over the person's images.</p>
<div class="cards">{% for d in sizes %}{{ card(d) }}{% endfor %}</div>
{% endif %}

{% if sheets %}
<h2 id="sheet">Contact sheet</h2>
<p class="meta">A choice across devices and {% if report.muscles %}muscles, with all outlines{% else %}classes, with the
 outline of the mask{% endif %}{% if report.finds_masks %}: blue where the model found it,
 amber where a person drew it{% endif %}. Does each outline follow the muscle?
 Suspected text is blacked out.{% if not_shown %} {{ several(not_shown, "further image") }} not shown.{% endif %}</p>
<div class="contact">
{% for sheet in sheets %}
<h3>{{ sheet.device }} <span>{{ several(sheet.images, "image") }}, {{ sheet.pictures | length }} shown</span></h3>
{{ thumbs(sheet.pictures) }}
{% endfor %}
</div>
{% endif %}

{% if rules %}
<h2 id="labels">Labels, made again by rule</h2>
<p class="meta">Where the table holds what a rule needs, the label was worked out again and compared with the one given.
</p><div class="scroll"><table><thead><tr><th scope="col">Rule</th><th scope="col" class="num">People compared</th>
<th scope="col" class="num">Labels that agree</th><th scope="col" class="num">Share</th></tr></thead><tbody>
{% for r in rules %}
<tr><th scope="row">{{ r[0] }}</th>{% for cell in r[1:] %}<td class="num">{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endif %}

{% if checks %}
<h2 id="checks">What was checked</h2>
<ul class="checks">
{% for name, ran in checks %}
<li class="{{ "ran" if ran else "idle" }}">{{ icon("good" if ran else "idle") }}{{ name }}
{%- if not ran %} (not run: what it needs is absent){% endif %}</li>
{% endfor %}
</ul>
{% endif %}

<h2 id="about">About this page</h2>
<p>It never contains a participant's identifier, a name, a date of birth, the text of a header, or a file name that
 could name a person: places are rows. Thumbnails are small, cut to the tissue, and suspected text in them is blacked
 out. They are still images of your patients: <b>keep this page inside the hospital.</b> It sends nothing and loads
 nothing.</p>
<p class="meta">Written by <code>sarco-site check-data</code>, {{ version }}. Digest of the study file:
 <code>{{ digest }}</code>. The same data give the same page.</p>
</main>{% if groups %}<script>{{ script }}</script>{% endif %}</body></html>
"""
