"""The report of a comparison that finds muscles, and of a deployed run that does: one self-contained page each.

The page of a comparison is drawn from results.json and the figures beside it; that of a deployed run from what its
hospitals told, in sums and means. What is absent is said to be; pictures are of synthetic people only.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sarco_models.errors import RunError
from server import muscle_tables, muscle_words, run_tables
from server.arms import CENTRAL
from server.figures import draw
from server.inlined import inline
from server.measured import read_measured
from server.muscle_panels import PAINTERS
from server.muscle_run import MuscleRun
from server.page import FACTS, HEAD, MACROS, OPENING, render
from server.results import Results, Row
from server.run_facts import Meta
from server.runs import Run
from server.synthetic import is_synthetic
from server.tables import Table
from server.whole_files import write_text

FIGURES = "muscles"
"""Folder of the figures that the lab draws from people's sizes."""

CONTENTS = {
    "asked": "What was asked",
    "dice": "Muscle by muscle",
    "differences": "Compared with the other ways",
    "measures": "Distances and sizes",
    "sites": "Hospital by hospital",
    "agreement": "Agreement",
    "correlations": "Sizes and the body",
    "examples": "Best and worst",
    "told": "From what the hospitals may send",
    "plan": "The planned network",
    "learning": "Learning",
    "privacy": "Privacy",
    "beware": "What to beware of",
    "guide": "Reading guide",
    "origin": "Versions, settings",
}
HTML = (
    OPENING
    + FACTS
    + """<h2 id="asked">What was asked, and of whom</h2><p>{{ asked }}</p>{{ grid(people) }}
{% if contact %}<details><summary>A sample of the hospitals' images</summary><figure class="contact">
<span class="tag">SYNTHETIC</span><img src="{{ contact }}" alt="Images of the hospitals, with drawn outlines">
</figure></details>{% endif %}
<h2 id="dice">Muscle by muscle</h2>{{ picture(figures.dice, captions.dice) }}{{ grid(dice) }}
{{ folded("The same of all who were held out", dice_all) }}
<h2 id="differences">Compared with the other ways</h2>{{ picture(figures.differences, captions.differences) }}
{{ grid(differences) }}
{{ folded("The same in millimetres: HD95", differences_mm) }}
<h2 id="measures">Distances and sizes</h2>{{ grid(measures) }}
<h2 id="sites">Hospital by hospital</h2>{{ grid(by_hospital) }}
{{ folded("The same in millimetres: HD95", hospital_mm) }}
<h2 id="agreement">Thickness and area, found against drawn</h2>
{% if figures.agreement %}{{ picture(figures.agreement, captions.agreement) }}{% endif %}{{ grid(agreement) }}
<h2 id="correlations">Sizes and the body</h2>
{% if figures.correlations %}{{ picture(figures.correlations, captions.correlations) }}{% endif %}
{{ grid(correlations) }}
{% if absent %}<details><summary>What cannot be said, and why</summary><ul>{% for line in absent %}<li>{{ line }}</li>
{% endfor %}</ul></details>{% endif %}
{% if figures.examples %}<h2 id="examples">Best, median and worst</h2>
{{ picture(figures.examples, captions.examples) }}{% endif %}
{% if told.rows %}<h2 id="told">From what the hospitals may send</h2><p>{{ told_words }}</p>{{ grid(told) }}
{{ grid(told_agreement) }}{% endif %}
{% if plan.rows %}<h2 id="plan">The network that was planned</h2>{{ grid(plan) }}{% endif %}
<h2 id="learning">Learning curves</h2>{{ picture(figures.learning, captions.learning) }}
<h2 id="privacy">Privacy: what left each hospital</h2>{% for line in privacy %}<p>{{ line }}</p>{% endfor %}
{% if traffic.rows %}{{ grid(traffic) }}{% endif %}
<h2 id="beware">What to beware of</h2><ul>{% for line in beware %}<li>{{ line }}</li>{% endfor %}</ul>
<h2 id="guide">Reading guide</h2><dl>{% for word, meaning in guide.items() %}<dt>{{ word }}</dt><dd>{{ meaning }}</dd>
{% endfor %}</dl>
<h2 id="origin">Versions and settings</h2>{{ folded("What each way of training was given", arms) }}
{{ folded("Where the numbers come from", provenance) }}{{ folded("The study file", settings) }}
</main></body></html>
"""
)
TOLD = (
    "The hospitals measured the released model on their own test participants and sent numbers of participants, means, "
    "standard deviations and sums; of fewer people than a hospital's own smallest number nothing was sent."
)
UNTOLD = (
    "Nothing was sent: a hospital tells of no fewer test participants than its own smallest number, and of nothing "
    "that its policy does not list."
)


def muscle_page(results: Results, directory: Path, subtitle: str) -> str:
    """The page of a comparison; draws figures/ beside results.json."""
    run = MuscleRun(results)
    drawn = draw(results, directory / "figures", PAINTERS)
    found = {name: inline(path) for name, path in drawn.items()}
    people = {
        "agreement": directory / FIGURES / "agreement.png",
        "correlations": directory / FIGURES / "correlations.png",
    }
    if results.meta.synthetic:
        people["examples"] = directory / "examples.png"
    found |= {name: inline(path) for name, path in people.items() if path.is_file()}
    contact = directory / "contact_hospitals.png"
    figures = {name: found.get(name, "") for name in muscle_words.CAPTIONS}
    tables = _tables(run)
    shown = {"examples": figures["examples"], "told": tables["told"].rows, "plan": tables["plan"].rows}
    return render(
        HTML,
        title=results.meta.title,
        synthetic=results.meta.synthetic,
        subtitle=subtitle,
        contents={anchor: name for anchor, name in CONTENTS.items() if shown.get(anchor, True)},
        finding=muscle_words.finding(run),
        facts=muscle_words.headline(run),
        asked=muscle_words.asked(results.meta.study, run.titles),
        absent=muscle_words.absent(run),
        captions=muscle_words.CAPTIONS,
        figures=figures,
        contact=inline(contact) if results.meta.synthetic and contact.is_file() else "",
        privacy=muscle_words.sent(run),
        beware=muscle_words.beware(run),
        guide=muscle_words.GUIDE,
        told_words=TOLD,
        **tables,
    )


RUN_HTML = (
    MACROS
    + HEAD
    + """
<section class="finding" id="finding">{% for sentence in finding %}<p>{{ sentence }}</p>{% endfor %}</section>
<h2>What was asked</h2><p>{{ asked }}</p>
<h2>Muscle by muscle</h2><p>{{ told_words }}</p>{{ grid(told) }}
{% for table in hospitals %}{{ folded(table.caption, table) }}{% endfor %}
<h2>Thickness and area, found against drawn</h2>{% if agreement.rows %}{{ grid(agreement) }}{% else %}
<p class="missing">No hospital has told sums of sizes: fewer test participants than its smallest number, or it lets no
 sums out.</p>{% endif %}
<h2>Learning</h2>{{ picture(learning, captions.learning) }}
<h2>What to beware of</h2><ul>{% for line in beware %}<li>{{ line }}</li>{% endfor %}</ul>
<h2>Reading guide</h2><dl>{% for word, meaning in guide.items() %}<dt>{{ word }}</dt><dd>{{ meaning }}</dd>
{% endfor %}</dl></main></body></html>
"""
)


def write_run_report(directory: Path) -> Path:
    """Write report.html of a federation's own run, from what its hospitals have told; returns the page.

    Nothing but aggregates is there: no differences between ways of training, no correlations, no picture.

    Raises:
        RunError: the directory is no run directory, or its study finds no muscles.
    """
    run = Run.open(directory)
    if run.study.segmentation is None:
        raise RunError(f"{directory}: its study finds no muscles: name a folder with results.json")
    titles = {m.name: m.title[:1].upper() + m.title[1:] for m in run.study.segmentation.muscles}
    measured = read_measured(directory)
    synthetic = bool((run.released or {}).get("synthetic") or is_synthetic(run))
    results = Results(Meta(title=run.study.title, synthetic=synthetic), tuple(_curves(run)))
    drawn = draw(results, directory / "figures", {"learning": PAINTERS["learning"]})
    page = render(
        RUN_HTML,
        title=run.study.title,
        synthetic=synthetic,
        subtitle=f"{directory.resolve().name}  ·  {len(run.records()) - 1} rounds  ·  study {run.study.digest[:12]}",
        finding=muscle_words.told_finding(measured, titles),
        asked=muscle_words.asked(run.study.model_dump(), titles),
        told_words=TOLD if measured else UNTOLD,
        told=muscle_tables.told(measured, titles),
        hospitals=[muscle_tables.told({site: measured[site]}, titles, site) for site in sorted(measured)],
        agreement=muscle_tables.told_agreement(measured, titles),
        learning=inline(drawn["learning"]) if drawn else "",
        captions=muscle_words.CAPTIONS,
        beware=muscle_words.beware_of_told(synthetic=synthetic),
        guide=muscle_words.TOLD_GUIDE,
    )
    write_text(directory / "report.html", page)
    return directory / "report.html"


def _curves(run: Run) -> Iterator[Row]:
    """The rounds' scores of every hospital's validation people, and of the central cohort where there is one."""
    for record in run.records():
        for site, found in {CENTRAL: record["central"], **record["sites"]}.items():
            # A hospital's reply evaluates the model that came down: that of the round before.
            at = record["round"] - (site != CENTRAL)
            for metric in ("loss", "dice"):
                if metric in found:
                    yield Row(arm="federated", round=at, site=site, metric=metric, value=found[metric])


def _tables(run: MuscleRun) -> dict[str, Table]:
    measured: Any = run.measured()
    return {
        "people": muscle_tables.people(run),
        "dice": muscle_tables.dice(run, run.home),
        "dice_all": muscle_tables.dice(run, "all"),
        "differences": muscle_tables.differences(run),
        "differences_mm": muscle_tables.differences(run, "hd95_mm"),
        "measures": muscle_tables.measures(run),
        "plan": muscle_tables.plan(run),
        "by_hospital": muscle_tables.by_hospital(run),
        "hospital_mm": muscle_tables.by_hospital(run, "hd95_mm"),
        "agreement": muscle_tables.agreement(run),
        "correlations": muscle_tables.correlations(run),
        "told": muscle_tables.told(measured, run.titles),
        "told_agreement": muscle_tables.told_agreement(measured, run.titles),
        "arms": run_tables.arms(run.results),
        "traffic": run_tables.traffic(run.results),
        "provenance": run_tables.provenance(run.results),
        "settings": run_tables.settings(run.results),
    }
