"""How the page of a preview looks, and the order of things on it; ``preview_page`` fills it in.

It looks like the page of a data check. What matters comes first: would anything leave, how much, at what price.
"""

from client.quality.style import CSS as QUALITY

CSS = (
    QUALITY
    + """
.keep { background: #1f2328; color: #fff; text-align: center; padding: .5rem 1rem; font-size: .9rem; }
.steps { counter-reset: step; list-style: none; padding: 0; margin: .8rem 0; max-width: 52rem; }
.steps li { padding: .28rem 0 .28rem 1.6rem; position: relative; }
.steps li::before { content: "•"; position: absolute; left: .4rem; color: var(--muted); }
td.name, th.name { overflow-wrap: anywhere; min-width: 8rem; }
td.value { white-space: nowrap; }
.pieces th.name { min-width: 11rem; } .verdict { display: block; }
td.hash { font: .9em "SF Mono", Consolas, "Liberation Mono", "DejaVu Sans Mono", monospace; color: var(--muted); }
td.means { color: var(--muted); min-width: 13rem; }
tr.stays td, tr.stays th { color: var(--warning); }
.yes { color: var(--good); font-weight: 650; white-space: nowrap; }
.no { color: var(--error); font-weight: 650; white-space: nowrap; }
.reply { border: 1px solid var(--rule); border-radius: 6px; margin: .8rem 0; padding: 0 1.3rem; }
.reply > summary { cursor: pointer; padding: .8rem 0; display: flex; flex-wrap: wrap; gap: .2rem .9rem;
  align-items: baseline; list-style: none; }
.reply > summary::-webkit-details-marker { display: none; }
.reply > summary::before { content: "▸"; color: var(--muted); }
.reply[open] > summary::before { content: "▾"; }
.reply h3 { margin: 0; font-size: 1.02rem; }
.reply .many { margin-left: auto; color: var(--muted); white-space: nowrap; }
.reply .why { margin: 0 0 .5rem; max-width: 54rem; }
.attack { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 1.2rem; margin: 1rem 0; }
.attack figure { margin: 0; }
.attack img { width: 100%; aspect-ratio: 1; image-rendering: pixelated; background: #111; display: block;
  border-radius: 3px; }
.attack figcaption { font-size: .84rem; line-height: 1.4; margin-top: .35rem; }
.attack figcaption span { color: var(--muted); display: block; }
svg.hist { width: 100%; max-width: 720px; height: auto; display: block; margin: .6rem 0; }
svg.scale { width: 100%; max-width: 720px; height: auto; display: block; margin: .8rem 0; }
svg.scale text, svg.hist text { font-size: 12px; }
dl.words dt { font-weight: 650; margin-top: .6rem; } dl.words dd { margin: 0; max-width: 46rem; }
@media (max-width: 640px) { .reply { padding: 0 .8rem; } .reply .many { margin-left: 1.4em; width: 100%; }
  .attack { grid-template-columns: 1fr 1fr; } svg.scale text, svg.hist text { font-size: 20px; }
  .pieces .tech, th.when, td.when { display: none; } td.means { min-width: 9rem; }
  td.name, th.name { min-width: 6.4rem; }
  .pieces th.name { min-width: 7.4rem; } }
@media print { .keep { print-color-adjust: exact; } .attack { grid-template-columns: repeat(4, 1fr); }
  .reply { border: 0; padding: 0; } .reply > summary { break-after: avoid; padding: .3rem 0; }
  .reply > summary::before { content: ""; } details::details-content { content-visibility: visible; block-size: auto; }
  .reply .more { display: block; } .more > summary { display: none; } td.means { min-width: 0; } }
"""
)

HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<title>{{ "SYNTHETIC: " if synthetic }}What would leave {{ site }}</title><style>{{ css }}</style></head><body>
{% macro table(t) %}<div class="scroll"><table class="{{ t.kind }}"><thead><tr>
{% for h in t.head %}<th scope="col" class="{{ h[1] }}">{{ h[0] }}</th>{% endfor %}</tr></thead><tbody>
{% for row in t.rows %}<tr{% if row.stays %} class="stays"{% endif %}>
{% for cell in row.cells %}{% set kind = t.head[loop.index0][1] %}
{% if loop.first %}<th scope="row" class="{{ kind }}">{{ cell }}</th>
{% else %}<td class="{{ kind }}">{{ cell }}</td>{% endif %}{% endfor %}</tr>
{% endfor %}</tbody></table></div>{% endmacro %}
{% if synthetic %}<div class="banner"><b>SYNTHETIC</b> &nbsp; Every participant, image and value on this page is
 computer-made. Not evidence about patients.</div>{% endif %}
"""
"""Every such page up to what is to be kept: title, the macro of a table, the mark of synthetic data."""

HTML = (
    HEAD
    + """<div class="keep"><b>Keep this page inside the hospital.</b> {{ keep }}</div>
<main><h1>Preview of what would leave {{ site }} <span>for the study: {{ title }}</span></h1>
<section class="verdict {{ verdict.kind }}" aria-label="Verdict"><div>
<p class="large">{{ verdict.title }}</p>{% for line in verdict.lines %}<p>{{ line }}</p>{% endfor %}
<p class="next"><b>Next:</b> {{ verdict.next }}</p></div></section>
<dl class="counts">{% for c in counts %}<div><dt>{{ c.what }}</dt><dd><span class="n">{{ c.number }}
{% if c.unit %} <small>{{ c.unit }}</small>{% endif %}</span>
{% for line in c.below %}<div class="meta">{{ line }}</div>{% endfor %}</dd></div>{% endfor %}</dl>
<nav aria-label="Parts of this page">{% for anchor, words in parts.items() %}<a href="#{{ anchor }}">{{ words }}</a>
{% endfor %}</nav>

<h2 id="short">In short</h2><ul class="steps">{% for line in short %}<li>{{ line }}</li>{% endfor %}</ul>

<h2 id="today">What your policy says today</h2>
{% if keys.rows %}<p class="meta">Nothing of what is refused would leave. Each line names the key of site.toml that
 decides it; you change it, or you leave it.</p>{{ table(keys) }}
{% else %}<p>Your site.toml allows every request of this study.</p>{% endif %}
{% if stays.rows %}<h3>Pieces that stay, of requests that are answered</h3>{{ table(stays) }}{% endif %}

<h2 id="leaves">What would leave, reply by reply</h2>
<p class="meta">This is the answer of your own software to one real round on your own data. Names, values, bytes and
 hashes are those that would have been sent; a new round gives new parameters. Nothing else leaves: no image, no row of
 a table, no identifier, no file name.</p>
{{ table(replies) }}
{% for r in details %}<details class="reply" id="{{ r.request }}"{{ " open" if r.open }}><summary><h3>{{ r.title }}</h3>
<span class="many">{{ r.size }}</span></summary><p class="why">{{ r.what }}</p>
{% if r.pieces.rows %}{{ table(r.pieces) }}{% endif %}
{% if r.folded.rows %}<details class="more"><summary>{{ r.folded_words }}</summary>{{ table(r.folded) }}</details>
{% endif %}
{% if r.drawing %}{{ r.drawing }}<p class="meta">{{ r.drawing_words }}</p>{% endif %}
{% if r.extra.rows %}<details class="more"><summary>{{ r.extra_words }}</summary>{{ table(r.extra) }}</details>
{% endif %}
{% for line in r.absent %}<p class="meta">Not in it: {{ line }}.</p>{% endfor %}
<p class="meta">SHA-256 of the reply as it was made: <code>{{ r.digest }}</code></p></details>
{% endfor %}

<h2 id="price">What it would cost in privacy</h2>
{% for line in price.words %}<p>{{ line }}</p>{% endfor %}
{{ price.drawing }}
{% if price.table.rows %}{{ table(price.table) }}{% endif %}
<h3>{{ price.heading }}</h3><ul class="steps">{% for line in price.uncovered %}<li>{{ line }}</li>{% endfor %}</ul>

<h2 id="attacks">Attacked, on this very payload</h2>
{% for line in attacks.words %}<p>{{ line }}</p>{% endfor %}
<h3>Was this person trained on?</h3>{{ table(attacks.membership) }}
{% for line in attacks.membership_words %}<p class="meta">{{ line }}</p>{% endfor %}
<h3>What did this person's {{ "image" if attacks.pictures else "data" }} look like?</h3>
{% for line in attacks.image_words %}<p>{{ line }}</p>{% endfor %}
{% if attacks.pictures %}<div class="attack">{% for p in attacks.pictures %}<figure><img src="{{ p.source }}"
 alt="{{ p.title }}"><figcaption><b>{{ p.title }}</b><span>{{ p.words }}</span></figcaption></figure>{% endfor %}</div>
{% endif %}
{% if attacks.row_words %}<p>{{ attacks.row_words }}</p><details class="more"><summary>the values, column by column
</summary>{{ table(attacks.row) }}</details>{% endif %}

<h2 id="words">What the numbers mean</h2><dl class="words">{% for word, means in numbers.items() %}<dt>{{ word }}</dt>
<dd>{{ means }}</dd>{% endfor %}</dl>

<h2 id="about">About this page</h2>
{% for line in about %}<p>{{ line }}</p>{% endfor %}
<p class="meta">Written by <code>sarco-site preview</code>, {{ version }}, in {{ seconds }} s. Digest of the study file:
 <code>{{ digest }}</code>. It loads nothing and sends nothing.</p>
</main></body></html>
"""
)
