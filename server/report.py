"""The report of a run: one self-contained page that a clinician would want to read, with its figures and tables.

What the run does not hold is said to be absent; nothing is guessed. No participant is named.
"""

import csv
from pathlib import Path
from typing import Any

from server import comparison_tables, methods, other_masks, people_tables, privacy_tables, run_tables, statements
from server.answers import answers_table, answers_words
from server.arms import NESTED, ArmName, place_name
from server.explanations import Section, section
from server.figures import MOST_LINES, draw_all
from server.inlined import inline as inline
from server.muscle_report import muscle_page, write_run_report
from server.muscle_run import finds_muscles
from server.page import HTML, render
from server.results import Results, Row, read_results
from server.statements import best_alone, limits
from server.tables import Table, number, size
from server.wording import CAPTIONS, GUIDE

NO_CONTACT = "No contact sheets of the hospitals' images were found beside the results."
NO_CONTACT_OF_PATIENTS = "Images are shown for synthetic hospitals only: those of patients stay at their hospital."
CONTENTS = {
    "compare": "Comparison",
    "roc": "ROC",
    "calibration": "Calibration",
    "decision": "Worth of the probabilities",
    "sites": "Hospital by hospital",
    "answers": "From what the hospitals may send",
    "subgroups": "Kinds of people",
    "explanation": "What the model goes by",
    "masks": other_masks.TITLE,
    "learning": "Learning",
    "data": "Who learned from whom",
    "privacy": "Privacy",
    "methods": "Methods",
    "limits": "Limitations",
    "guide": "Reading guide",
    "seeds": "Each seed, versions, settings",
}


def write_report(directory: Path) -> Path:
    """Draw figures/, write results.csv, comparison.csv and report.html beside results.json; returns the page.

    Of a run that finds muscles the page is another one; of the run directory of a federation it is drawn from what its
    hospitals have told.

    Raises:
        RunError: the directory holds no results.json, or one that is not a run's.
    """
    if not (directory / "results.json").exists() and (directory / "measured.json").exists():
        return write_run_report(directory)
    results = read_results(directory)
    write_csv(directory / "results.csv", [list(Row.model_fields), *(_fields(row) for row in results.rows)])
    if finds_muscles(results):
        return write_text(directory / "report.html", muscle_page(results, directory, _subtitle(results)))
    drawn = draw_all(results, directory / "figures")
    # Pixels of real people never leave their hospital, not even into a picture of a report.
    contact = sorted(directory.glob("contact_*.png")) if results.meta.synthetic else []
    write_csv(directory / "comparison.csv", comparison_tables.comparison(results).lines())
    page = _render(
        results,
        figures={name: inline(drawn[name]) if name in drawn else "" for name in CAPTIONS},
        explanation=_shown(section(results, directory)),
        masks=_shown(other_masks.section(results)),
        contact=[{"site": place_name(p.stem.removeprefix("contact_")), "image": inline(p)} for p in contact],
    )
    return write_text(directory / "report.html", page)


def _render(results: Results, **parts: Any) -> str:
    found = _tables(results)
    words = answers_words(results)
    shown = {"answers": words, "subgroups": found["subgroups"].rows, "explanation": parts["explanation"]}
    shown["masks"] = parts["masks"]
    shown["learning"] = parts["figures"]["learning"] or not results.cross_validated
    return render(
        HTML,
        title=results.meta.title,
        synthetic=results.meta.synthetic,
        contents={anchor: name for anchor, name in CONTENTS.items() if shown.get(anchor, True)},
        captions=captions(results),
        guide=GUIDE,
        subtitle=_subtitle(results),
        images=results.images,
        no_contact=NO_CONTACT if results.meta.synthetic else NO_CONTACT_OF_PATIENTS,
        finding=statements.finding(results),
        facts=_facts(results),
        absent=statements.absent(results),
        comparison_note=statements.comparison_note(results),
        difference_note=statements.difference_note(results),
        heterogeneity=statements.heterogeneity(results),
        answers_words=words,
        cross=results.cross_validated,
        long=len(results.compared) > comparison_tables.MANY_ARMS,
        personal=any(results.personal(arm) or ArmName.parse(arm).kind == "without" for arm in results.arms),
        privacy=methods.privacy(results),
        protection=privacy_tables.protection(results),
        uncovered=privacy_tables.uncovered(results),
        methods=methods.methods(results),
        limitations=methods.limitations(results),
        **found,
        **parts,
    )


def _tables(results: Results) -> dict[str, Table]:
    return {
        "ranking": comparison_tables.ranking(results),
        "probabilities": comparison_tables.calibration(results),
        "differences": comparison_tables.differences(results),
        "further": comparison_tables.further_differences(results),
        "by_hospital": comparison_tables.by_hospital(results),
        "folds": comparison_tables.folds(results),
        "external": comparison_tables.external(results),
        "seeds": comparison_tables.each_seed(results),
        "answers": answers_table(results),
        "sites": people_tables.sites(results),
        "baseline": people_tables.baseline(results),
        "subgroups": people_tables.subgroups(results),
        "arms": run_tables.arms(results),
        "traffic": run_tables.traffic(results),
        "leakage": privacy_tables.leakage(results),
        "provenance": run_tables.provenance(results),
        "settings": run_tables.settings(results),
    }


def captions(results: Results) -> dict[str, tuple[str, str]]:
    """Title and text beneath each figure."""
    curved = [arm for arm in results.compared if not ArmName.parse(arm).control]
    rest = len(curved) - MOST_LINES
    fills = {
        "home": statements.home_words(results),
        "lead": results.arm_name(results.lead),
        "condition": results.condition,
        "rest": f" {MOST_LINES} lines at most are drawn; all ways of training are in the tables." if rest > 0 else "",
    }
    return {name: (title, text.format(**fills)) for name, (title, text) in CAPTIONS.items()}


def _shown(found: Section | None) -> dict[str, Any] | None:
    if found is None:
        return None
    figures = [{"source": inline(image), "alt": name.replace("_", " ")} for name, image in found.figures.items()]
    return {"title": found.title, "paragraphs": found.paragraphs, "tables": found.tables, "figures": figures}


# --- files ------------------------------------------------------------------------------------------------------------


def _fields(row: Row) -> list[Any]:
    return list(row.model_dump().values())


def write_csv(path: Path, lines: list[list[Any]]) -> None:
    """Write a table, whole or not at all."""
    part = path.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)
    part.replace(path)


def write_text(path: Path, text: str) -> Path:
    """Write a page, whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    return part.replace(path)


# --- above the first table --------------------------------------------------------------------------------------------


def _facts(results: Results) -> list[dict[str, str]]:
    facts = []
    for label, arm, site in _headline(results):
        if arm and (auc := results.over_seeds(arm, "auc", site)):
            facts.append({"number": number(auc.mean, 2), "words": f"{label}; {limits(auc)}"})
    moved = [(f.bytes_down or 0) + (f.bytes_up or 0) for f in results.arm_facts("federated")]
    if any(moved):
        facts.append({"number": size(sum(moved) / len(moved)), "words": "moved in one federated training, both ways"})
    return facts


def _headline(results: Results) -> list[tuple[str, str, str]]:
    """Words, arm and site of the AUCs that stand above everything else."""
    home = results.home
    if results.cross_validated:
        elsewhere = [(f"AUC at {place_name(s)}, frozen", results.lead, s) for s in results.sites if s != home][:2]
        nested = ("AUC, chosen anew in each fold", f"cv:{home}@{NESTED}", home)
        return [("AUC, chosen model, out of fold", results.lead, home), nested, *elsewhere]
    if results.lead != "federated":
        return []
    best = best_alone(results) or ""
    alone = f"AUC, best hospital alone ({place_name(ArmName.parse(best).site)})"
    return [("AUC, federated", "federated", home), (alone, best, home), ("AUC, all data pooled", "pooled", home)]


def _subtitle(results: Results) -> str:
    meta = results.meta
    seeds = meta.seeds or tuple(results.seeds)
    named = {"cohort": meta.preset, "scale": meta.scale, "engine": meta.engine, "created": meta.created}
    parts = [f"{key} {value}" for key, value in named.items() if value]
    parts.append(f"{len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'} ({', '.join(str(s) for s in seeds)})")
    return "  ·  ".join(parts)
