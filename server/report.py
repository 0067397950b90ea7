"""The report of a run: one self-contained page that a clinician would want to read, with its figures and tables.

What the run does not hold is said to be absent; nothing is guessed. No participant is named.
"""

import base64
import csv
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from server import statements, tables
from server.figures import draw_all, place_name
from server.page import CAPTIONS, CSS, GUIDE, HTML
from server.results import Results, Row, read_results
from server.statements import best_alone, limits
from server.tables import Table, number, size

NO_CONTACT = "No contact sheets of the hospitals' images were found beside the results."
NO_CONTACT_OF_PATIENTS = "Images are shown for synthetic hospitals only: those of patients stay at their hospital."


def write_report(directory: Path) -> Path:
    """Draw figures/, write results.csv, comparison.csv and report.html beside results.json; returns the page.

    Raises:
        RunError: the directory holds no results.json, or one that is not a run's.
    """
    results = read_results(directory)
    drawn = draw_all(results, directory / "figures")
    # Pixels of real people never leave their hospital, not even into a picture of a report.
    contact = sorted(directory.glob("contact_*.png")) if results.meta.synthetic else []
    compared = tables.comparison(results)
    _write_csv(directory / "results.csv", [list(Row.model_fields), *(_fields(row) for row in results.rows)])
    _write_csv(directory / "comparison.csv", compared.lines())
    page = _render(
        results,
        comparison=compared,
        figures={name: _inline(path) for name, path in drawn.items()},
        contact=[{"site": place_name(p.stem.removeprefix("contact_")), "image": _inline(p)} for p in contact],
    )
    return _write_text(directory / "report.html", page)


def _render(results: Results, **parts: Any) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    figures: dict[str, str] = parts.pop("figures")
    page = environment.from_string(HTML).render(
        meta=results.meta,
        synthetic=results.meta.synthetic,
        css=Markup(CSS),  # noqa: S704 - our own constant
        captions=CAPTIONS,
        guide=GUIDE,
        figures={name: figures.get(name, "") for name in CAPTIONS},
        subtitle=_subtitle(results),
        no_contact=NO_CONTACT if results.meta.synthetic else NO_CONTACT_OF_PATIENTS,
        finding=statements.finding(results),
        facts=_facts(results),
        absent=statements.absent(results),
        comparison_note=statements.comparison_note(results),
        difference_note=statements.difference_note(results),
        heterogeneity=statements.heterogeneity(results),
        privacy=statements.privacy(results),
        methods=statements.methods(results),
        limitations=statements.limitations(results),
        **_further_tables(results),
        **parts,
    )
    return page.replace(" %", "\N{NO-BREAK SPACE}%")


def _further_tables(results: Results) -> dict[str, Table]:
    return {
        "differences": tables.differences(results),
        "sites": tables.sites(results),
        "arms": tables.arms(results),
        "traffic": tables.traffic(results),
        "seeds": tables.each_seed(results),
        "provenance": tables.provenance(results),
        "settings": tables.settings(results),
    }


# --- files ------------------------------------------------------------------------------------------------------------


def _inline(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _fields(row: Row) -> list[Any]:
    return list(row.model_dump().values())


def _write_csv(path: Path, lines: list[list[Any]]) -> None:
    part = path.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)
    part.replace(path)


def _write_text(path: Path, text: str) -> Path:
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    return part.replace(path)


# --- above the first table --------------------------------------------------------------------------------------------


def _facts(results: Results) -> list[dict[str, str]]:
    best = best_alone(results)
    shown = {"federated": "federated", "best": best, "pooled": "pooled"}
    labels = {"federated": "AUC, federated", "pooled": "AUC, all data pooled", "best": "AUC, best hospital alone"}
    facts = []
    for key, arm in shown.items():
        if arm and (auc := results.over_seeds(arm, "auc")):
            which = f" ({place_name(arm.partition(':')[2])})" if key == "best" else ""
            facts.append({"number": number(auc.mean, 2), "words": f"{labels[key]}{which}; {limits(auc)}"})
    moved = [(f.bytes_down or 0) + (f.bytes_up or 0) for f in results.arm_facts("federated")]
    if any(moved):
        facts.append({"number": size(sum(moved) / len(moved)), "words": "moved in one federated training, both ways"})
    return facts


def _subtitle(results: Results) -> str:
    meta = results.meta
    seeds = meta.seeds or tuple(results.seeds)
    named = {"cohort": meta.preset, "scale": meta.scale, "engine": meta.engine, "created": meta.created}
    parts = [f"{key} {value}" for key, value in named.items() if value]
    parts.append(f"{len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'} ({', '.join(str(s) for s in seeds)})")
    return "  ·  ".join(parts)
