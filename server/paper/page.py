"""The page of the study beside the paper, and everything that is written with it; nothing is fetched from anywhere.

What no run was given for, and what a run does not hold, is said to be absent in its place.
"""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from server.page import CSS
from server.paper.baseline import table_1
from server.paper.documents import as_csv, as_latex, as_markdown, markdown_grid
from server.paper.entries import PaperTable, seeds_text, warnings_of
from server.paper.finished import BEYOND, NOT_RUN, PROTOCOLS, Finished, read_runs
from server.paper.further import beyond, contributions, federated, heat_map_checks, networks
from server.paper.ordering import auc_of, order_sentence
from server.paper.performance import table_2, table_3
from server.paper.pictures import draw_figures
from server.paper.published import COMBINATIONS, CROSS_VALIDATION, METRICS, NUMBERING, REFERENCE
from server.paper.validation import table_4
from server.tables import Cell, Table, TableRow
from server.whole_files import write_text

TITLE = "The three-centre study, beside the paper"
FIGURES = {
    "overview": (
        "Every AUC at a glance.",
        "Dot and bar: ours, mean of the seeds with the mean of their 95 % limits. Cross: printed by the paper.",
    ),
    "figure3": (
        f"Figure 3 ({NUMBERING}). ROC curves of the six models, cross-validation at A.",
        "Ours: out-of-fold participants pooled, mean of the seeds, band from the lowest to the highest seed (none with "
        "one seed); circle: at the thresholds of the other folds. Cross: the printed sensitivity and specificity.",
    ),
    "figure4": (
        f"Figure 4 ({NUMBERING}). ROC curves on complete cases, and of the frozen model at B and C.",
        "As Figure 3; circle at B and C: the threshold frozen at A. The printed point of C and "
        "its printed AUC do not fit each other (I14).",
    ),
    "figure5": (
        f"Figure 5 ({NUMBERING}). Shares of the three kinds of data.",
        "The paper prints the share of ultrasound only; complete cases stand in a second line where they were run.",
    ),
    "figure6": (
        f"Figure 6 ({NUMBERING}). Where the image network looks (Grad-CAM).",
        "Drawn of synthetic people only, one seed. Maps are shown with their checks, never alone: one that fails "
        "them explains nothing.",
    ),
}
PLACES = {"figure5": "Shares", "figure6": "Heat maps", "networks": "Networks", "federated": "Federated", "runs": "Runs"}

HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ "SYNTHETIC: " if synthetic }}{{ title }}</title><style>{{ css }}</style></head><body>
{% macro picture(name) %}{% if figures[name] %}<figure class="{{ name }}"><div class="scroll"><img
 src="{{ figures[name] }}" alt="{{ captions[name][0] }} {{ captions[name][1] }}"></div><figcaption>
 <b>{{ captions[name][0] }}</b> {{ captions[name][1] }}</figcaption></figure>{% else %}
<p class="missing">Not drawn: {{ captions[name][0] }}
 {{ lacking[name] }}</p>{% endif %}{% endmacro %}
{% macro cells(row, text) %}{% for cell in row.cells %}<{{ 'th scope="row"' | safe if loop.first else "td" }}
{%- if loop.index0 in text %} class="text"{% endif %}>{{ cell.main }}{% for line in cell.below %}<small>{{ line }}
</small>{% endfor %}</{{ "th" if loop.first else "td" }}>{% endfor %}{% endmacro %}
{% macro grid(table) %}<div class="scroll"><table><caption>{{ table.caption }}</caption><thead><tr>
{% for head in table.head %}<th scope="col"{% if loop.index0 in table.text %} class="text"{% endif %}>{{ head }}</th>
{% endfor %}</tr></thead><tbody>{% for row in table.rows %}{% if row.divider %}<tr class="divider"><td
 colspan="{{ table.head | length }}">{{ row.divider }}</td></tr>{% else %}<tr{% if row.lead %} class="lead"{% endif %}>
{{ cells(row, table.text) }}</tr>{% endif %}{% endfor %}</tbody></table></div>{% endmacro %}
{% macro block(table) %}<section id="{{ table.key }}"><h2>{{ table.title }}</h2>
{% for warning in table.warnings %}<p class="warning">{{ warning }}</p>{% endfor %}
{% for source in table.sources %}<p{% if not table.parts %} class="missing"{% endif %}>{{ source }}</p>{% endfor %}
{% for part in table.parts %}{{ grid(part.shown) }}{% if part.note %}<p class="note">{{ part.note }}</p>{% endif %}
{% endfor %}{% if table.notes %}<ul class="note">{% for note in table.notes %}<li>{{ note }}</li>{% endfor %}</ul>
{% endif %}</section>{% endmacro %}
{% if synthetic %}<div class="banner"><b>SYNTHETIC</b> &nbsp; Every participant, image and value under "ours" is
 computer-made. Not evidence about patients.</div>{% endif %}
<main><h1>{{ title }}{% if synthetic %} <span class="mark">SYNTHETIC</span>{% endif %}</h1>
<p class="meta">Paper: {{ reference }}. Its text was at hand in parts: only Table 1 is numbered as printed, the other
 numbers of tables and figures are inferred.</p>
<nav><b>Contents</b>{% for key, words in places.items() %}<a href="#{{ key }}">{{ words }}</a> {% endfor %}</nav>
<section class="finding">{% for sentence in finding %}<p>{{ sentence }}</p>{% endfor %}</section>
{{ picture("overview") }}
{% for table in tables %}{{ block(table) }}{% if after[table.key] %}{{ picture(after[table.key]) }}{% endif %}
{% endfor %}
{{ picture("figure5") }}{{ block(further.figure5) }}{{ picture("figure6") }}{{ block(further.figure6) }}
{% for table in further.values() %}{% if table.key not in ("figure5", "figure6") %}{{ block(table) }}{% endif %}
{% endfor %}
<section id="runs"><h2>Where the numbers come from</h2>{{ grid(runs) }}<p class="note">Every number of this page stands
 unrounded, with its definition and the cell of the paper, in table1.csv to table4.csv and further.csv beside it.</p>
</section></main></body></html>
"""
MORE_CSS = """
.warning { color: var(--warn); font: 600 .8rem/1.45 sans-serif; margin: .3rem 0; max-width: 52rem; }
tbody th small { display: inline; margin-left: .5em; color: var(--muted); font-size: .72rem; font-weight: 400; }
@media print { .warning, section > p, section > h2 { break-after: avoid; } .figure4 img { max-height: 215mm; } }
ul.note { padding-left: 1.1rem; } section { scroll-margin-top: 1rem; }
tbody th:first-child { min-width: 7.2rem; }
"""


def write_paper(runs: Mapping[str, Path] | Path, out: Path) -> Path:
    """Write paper.html, paper.md, table1 to table4 as csv, tex and md, further.csv and figures/ into a folder.

    Args:
        runs: folders of finished runs by protocol ("paper", "complete_cases", "architectures", "federated", and the
            further ones of ``finished.BEYOND``), any of them; or one folder alone, of the protocol "paper".
        out: made if it is not there; what is in it under these names is replaced.

    Returns:
        The page.

    Raises:
        RunError: no run or an unknown protocol was given, or a folder does not hold the results of its protocol.
    """
    finished = read_runs({"paper": runs} if isinstance(runs, Path) else runs)
    own = finished.get("paper")
    tables = [table_1(own), table_2(own), table_3(finished.get("complete_cases")), table_4(own)]
    further = [contributions(finished), heat_map_checks(own), networks(finished), federated(finished.get("federated"))]
    further += [beyond(run) for name, run in finished.items() if name in BEYOND]
    drawn = draw_figures(finished, out / "figures")
    for table in tables:
        write_text(out / f"{table.key}.csv", as_csv(table))
        write_text(out / f"{table.key}.tex", as_latex(table))
        write_text(out / f"{table.key}.md", as_markdown(table))
    write_text(out / "further.csv", _joined_csv(further))
    write_text(out / "paper.md", _markdown(finished, [*tables, *further], drawn))
    page = out / "paper.html"
    write_text(page, _html(finished, tables, further, drawn))
    return page


def _joined_csv(tables: Sequence[PaperTable]) -> str:
    """The tables' lines under one heading."""
    first, *others = (as_csv(table) for table in tables)
    return first + "".join(other.partition("\n")[2] for other in others)


# --- words ------------------------------------------------------------------------------------------------------------


def finding(runs: Mapping[str, Finished], tables: Sequence[PaperTable]) -> list[str]:
    """How much agrees, and what that is worth."""
    printed = [e for table in tables[1:] for e in table.entries if e.paper and e.measure in METRICS.values()]
    # Table 4 may show two of our models beside one printed number: the selected one comes first and counts.
    inside = {entry.paper.source: entry.inside for entry in reversed(printed) if entry.paper}
    judged = [value for value in inside.values() if value is not None]
    sentences = [
        f"Of {len(judged)} printed numbers that have a counterpart with an interval here (Tables 2 to 4), "
        f"{sum(judged)} lie within our 95 % interval and {len(judged) - sum(judged)} do not."
        if judged
        else "No number of Tables 2 to 4 has a counterpart with an interval in these runs."
    ]
    if own := runs.get("paper"):
        sentences += _smaller(own)
        sentences.append(order_sentence(own, CROSS_VALIDATION))
    warnings = dict.fromkeys(warning for run in runs.values() for warning in warnings_of(run.results))
    return [*sentences, *warnings]


def _smaller(run: Finished) -> list[str]:
    """A warning, where our study has fewer people than the paper's."""
    found = auc_of(run, next((arm for c in COMBINATIONS if (arm := run.arm(c))), None))
    theirs = CROSS_VALIDATION.people.participants
    if found is None or found.n is None or found.n >= theirs:
        return []
    return [
        f"This run is smaller than the paper's study (n = {found.n} against {theirs} at A): its wide intervals hold "
        "nearly everything, so agreement says little."
    ]


def _lacking(runs: Mapping[str, Finished]) -> dict[str, str]:
    """Why a figure is absent."""
    without = {
        "overview": "The runs hold no AUC to compare.",
        "figure3": "The run holds no scores.",
        "figure4": "The run holds no scores of B or C.",
        "figure5": "The run explains no model of all kinds of data.",
        "figure6": "The run holds no picture of heat maps, or its people are real.",
    }
    return {name: words if "paper" in runs else NOT_RUN["paper"] for name, words in without.items()}


def _runs_table(runs: Mapping[str, Finished]) -> Table:
    rows = []
    for name, words in (PROTOCOLS | BEYOND).items():
        run = runs.get(name)
        if run is None:
            rows.append(TableRow(tuple(map(Cell, (name, words, "not run", "", "", "", "")))))
            continue
        meta = run.results.meta
        cohort = " ".join(part for part in (meta.preset, meta.scale) if part) or "given folders"
        facts = seeds_text(run.results), cohort, meta.created or "", (meta.study_digest or "")[:12], run.digest[:12]
        rows.append(TableRow(tuple(map(Cell, (name, words, *facts)))))
    head = ("Run", "What", "Seeds", "Cohort", "Created", "Study digest", "SHA-256 of results.json")
    return Table("Runs.", head, tuple(rows), text=(1, 2, 3, 4, 5, 6))


# --- documents --------------------------------------------------------------------------------------------------------


def _markdown(runs: Mapping[str, Finished], tables: Sequence[PaperTable], drawn: Mapping[str, Path]) -> str:
    inferred = "Numbers of tables other than Table 1, and of figures, are inferred."
    lines = [f"# {TITLE}", "", f"Paper: {REFERENCE}. {inferred}", ""]
    lines += [f"{sentence}\n" for sentence in finding(runs, tables[:4])]
    lines += [as_markdown(table) for table in tables]
    lacking = _lacking(runs)
    for name, (title, words) in FIGURES.items():
        shown = f"![{title}](figures/{drawn[name].name})\n" if name in drawn else f"Not drawn: {lacking[name]}\n"
        lines += [shown, f"**{title}** {words}\n"]
    return "\n".join([*lines, *markdown_grid(_runs_table(runs))]) + "\n"


def _html(
    runs: Mapping[str, Finished],
    tables: Sequence[PaperTable],
    further: Sequence[PaperTable],
    drawn: Mapping[str, Path],
) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    places = {table.key: f"Table {number}" for number, table in enumerate(tables, 1)}
    page = environment.from_string(HTML).render(
        title=TITLE,
        reference=REFERENCE,
        css=Markup(CSS + MORE_CSS),  # noqa: S704 - our own constants
        synthetic=any(run.results.meta.synthetic for run in runs.values()),
        finding=finding(runs, tables),
        figures={name: _inline(drawn[name]) if name in drawn else "" for name in FIGURES},
        captions=FIGURES,
        lacking=_lacking(runs),
        tables=tables,
        after={"table1": "", "table2": "figure3", "table3": "", "table4": "figure4"},
        further={table.key: table for table in further},
        places=places | PLACES,
        runs=_runs_table(runs),
    )
    return page.replace(" %", "\N{NO-BREAK SPACE}%")


def _inline(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
