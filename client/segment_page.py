"""The page of ``sarco-site segment``: what was found, what is doubtful first, and how to correct it.

Pictures are links to the files beside it, and nothing is fetched from anywhere; without a line of script.
"""

from dataclasses import dataclass
from statistics import median
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from client.segment import MEASURES, NO_SPACING
from client.segment_journal import Record, Row
from client.segment_table import Done
from sarco_models.muscle import ECHO_INTENSITY_CAVEAT
from sarco_models.released_segmenter import ReleasedSegmenter

_CSS = """
:root { --ink:#1f2328; --muted:#57606a; --rule:#d9dce0; --soft:#f5f6f7; --blue:#0059a3; --warn:#b3261e;
  --good:#0a5c47; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff; font: 15px/1.55 "Inter", "Segoe UI", "Helvetica Neue", Roboto,
  "Liberation Sans", "DejaVu Sans", Arial, sans-serif; }
main { max-width: 1440px; margin: 0 auto; padding: 1rem 1.4rem 4rem; }
.banner { background: var(--warn); color: #fff; text-align: center; padding: .45rem 1rem; font-size: .84rem; }
.banner b { letter-spacing: .16em; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 1rem 0 .2rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem;
  padding-top: .9rem; border-top: 1px solid var(--rule); } p { max-width: 52rem; margin: .4rem 0; }
.meta, .note { color: var(--muted); font-size: .87rem; }
code { font: .92em "SF Mono", Consolas, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
.scroll { overflow-x: auto; } th, td { text-align: right; padding: .35rem 1rem .35rem 0; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { border-bottom: 1.5px solid var(--ink); }
tbody td, tbody th { border-bottom: 1px solid var(--rule); font-weight: 400; }
.show { display: flex; flex-wrap: wrap; gap: .4rem 1.2rem; margin: .8rem 0; } .show label { cursor: pointer; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); gap: 1.4rem;
  align-items: start; }
.card { margin: 0; border: 1px solid var(--rule); border-left: 5px solid var(--good); border-radius: 6px;
  padding: .7rem; }
.card.look { border-left-color: var(--warn); }
.card img { width: 100%; display: block; background: #000; object-fit: cover; object-position: top; }
.card h3 { margin: 0 0 .5rem; font-size: .9rem; overflow-wrap: anywhere; } .card .sev { font-weight: 650; }
.look .sev { color: var(--warn); } .fine .sev { color: var(--good); }
a { color: var(--blue); } .card ul { margin: .3rem 0 0; padding-left: 1.1rem;
  font-size: .85rem; } .card nav { font-size: .85rem; margin-top: .4rem; }
.card nav a { margin-right: .9rem; } .none { background: var(--soft); padding: 1.6rem .8rem; text-align: center; }
body:has(#doubtful:checked) .fine, body:has(#accepted:checked) .look { display: none; }
@media print { .show, .card nav { display: none; } .card { break-inside: avoid; } }
"""

_HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; img-src 'self' file:">
<title>Muscles found: {{ images }} images</title><style>{{ css }}</style></head><body>
{% if done.synthetic %}<div class="banner"><b>SYNTHETIC</b> &nbsp; The model was trained on computer-made people:
nobody knows what it is worth on real ones.</div>{% endif %}
<main><h1>{{ found }} of {{ images }} images with a muscle, {{ doubtful }} to be looked at</h1>
<p class="meta">Found by model <code>{{ done.model[:12] }}</code> of study {{ title }}. Research software, not a medical
device: every outline wants a person's eye before it is used.</p>
{% if muscles %}<h2>Measures</h2><div class="scroll"><table><thead><tr><th>Muscle</th><th>Found</th><th>Accepted</th>
<th>Thickness, mm</th><th>Area, cm²</th><th>Width, mm</th><th>Echo intensity</th></tr></thead><tbody>
{% for m in muscles %}<tr><td>{{ m.title }}</td><td>{{ m.found }}</td><td>{{ m.accepted }}</td>
{% for value in m.values %}<td>{{ value }}</td>{% endfor %}</tr>{% endfor %}</tbody></table></div>
<p class="note">Median (smallest to largest) of the accepted ones over images, not over people. {{ caveat }} All numbers
are in <a href="{{ measures }}">{{ measures }}</a>.</p>{% endif %}
<h2>Images</h2><div class="show" role="radiogroup" aria-label="Which images are shown">
<label><input type="radio" name="show" id="all" checked> all {{ cards | length }}</label>
<label><input type="radio" name="show" id="doubtful"> to be looked at: {{ doubtful }}</label>
<label><input type="radio" name="show" id="accepted"> accepted: {{ cards | length - doubtful }}</label></div>
<div class="cards">
{% for c in cards %}<article class="card {{ 'look' if c.doubtful else 'fine' }}"><h3>{{ c.name }}</h3>
{% if c.picture %}<a href="{{ c.picture }}"><img loading="lazy" src="{{ c.picture }}" alt="{{ c.alt }}"
 style="aspect-ratio: {{ c.size[0] }} / {{ c.size[1] }}"></a>
{% else %}<div class="none">{{ c.without }}</div>{% endif %}
{% for line in c.lines %}<div><span class="sev">{{ line.mark }}</span> {{ line.words }}</div>
{% if line.reasons %}<ul>{% for reason in line.reasons %}<li>{{ reason }}</li>{% endfor %}</ul>{% endif %}{% endfor %}
{% if c.links %}<nav>{% for link in c.links %}<a href="{{ link.href }}">{{ link.words }}</a>{% endfor %}</nav>
{% endif %}
</article>
{% endfor %}</div>
<h2>To correct an outline</h2>
<p>LabelMe: open <code>masks/NAME.json</code>, move the points, save. ITK-SNAP: open the image, then
Segmentation &gt; Open Segmentation, <code>masks/NAME.nii.gz</code>; names and colours come with
Segmentation &gt; Import Label Descriptions, <code>itk-snap-labels.txt</code>. Corrected files are left alone when the
command is given again, unless with <code>--overwrite</code>; a study takes them in the column <code>mask</code> of
images.csv.</p>
<p class="note">A dashed outline was not accepted: its score is below {{ '%.2f' | format(threshold) }}. The score is
the product of what the network expects of its own Dice,
{% if mirrors %}of how far it agrees with itself on the mirrored image,{% endif %}
of how sure it is along the edge, and of the shape. Dice says how far two outlines cover each other: 1 is the same
outline, 0 nothing in common.</p>
</main></body></html>
"""


@dataclass(frozen=True)
class _Line:
    mark: str
    words: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class _Link:
    href: str
    words: str


@dataclass(frozen=True)
class _Card:
    name: str
    picture: str
    size: tuple[int, int]
    alt: str
    doubtful: bool
    lines: tuple[_Line, ...]
    links: tuple[_Link, ...]
    without: str


@dataclass(frozen=True)
class _Muscle:
    title: str
    found: int
    accepted: int
    values: tuple[str, ...]


def page(done: Done, model: ReleasedSegmenter) -> str:
    """All results of a folder as one HTML page beside its pictures; what is doubtful comes first."""
    cards = sorted((_card(r, model) for _, r in sorted(done.records.items())), key=lambda c: not c.doubtful)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(_HTML).render(
        css=Markup(_CSS),  # noqa: S704 - our own constant
        done=done,
        title=model.study.title,
        images=len(cards),
        found=sum(any(row.muscle for row in r.rows) for r in done.records.values()),
        doubtful=sum(c.doubtful for c in cards),
        muscles=[_muscle(name, done.rows, model) for name in sorted({row.muscle for row in done.rows if row.muscle})],
        cards=cards,
        caveat=ECHO_INTENSITY_CAVEAT,
        measures=MEASURES,
        threshold=model.about.threshold,
        mirrors=model.study.augmentation.mirrors,
    )


def _card(record: Record, model: ReleasedSegmenter) -> _Card:
    lines = tuple(_line(row, model, first=row is record.rows[0]) for row in record.rows)
    picture = next((name for name in record.files if name.startswith("overlays/")), "")
    words = {".nii.gz": "NIfTI", ".png": "PNG", ".json": "LabelMe JSON"}
    masks = [name for name in record.files if name.startswith("masks/")]
    links = tuple(_Link(quote(name), next(w for end, w in words.items() if name.endswith(end))) for name in masks)
    doubtful = not record.rows or not all(row.accepted for row in record.rows)
    alt = ", ".join(line.words for line in lines)
    without = "Not done" if record.fault else "No picture"
    return _Card(record.image, quote(picture), record.size, alt, doubtful, lines, links, without)


def _line(row: Row, model: ReleasedSegmenter, *, first: bool) -> _Line:
    if not row.muscle:
        words = "; ".join(row.reasons)
        return _Line("Look at it:", f"{words[:1].upper()}{words[1:]}", ())
    parts = [model.title(row.muscle)]
    for value, form in (
        (row.thickness_mm, "{:.1f} mm thick"), (row.csa_cm2, "{:.2f} cm²"), (row.width_mm, "{:.0f} mm wide"),
        (row.echo_intensity, "echo intensity {:.0f}"), (row.score, "score {:.2f}"),
    ):  # fmt: skip
        parts += [form.format(value)] if value is not None else []
    reasons = tuple(reason for reason in row.reasons if first or reason != NO_SPACING)  # once for an image
    return _Line("Accepted:" if row.accepted else "Look at it:", " · ".join(parts), reasons)


def _muscle(name: str, rows: tuple[Row, ...], model: ReleasedSegmenter) -> _Muscle:
    own = [row for row in rows if row.muscle == name]
    good = [row for row in own if row.accepted]
    forms = (("thickness_mm", ".1f"), ("csa_cm2", ".2f"), ("width_mm", ".0f"), ("echo_intensity", ".0f"))
    values = tuple(_spread([v for row in good if (v := getattr(row, key)) is not None], form) for key, form in forms)
    return _Muscle(model.title(name), len(own), len(good), values)


def _spread(values: list[float], form: str) -> str:
    if not values:
        return "\N{EN DASH}"
    if len(values) == 1:
        return f"{values[0]:{form}}"
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"
