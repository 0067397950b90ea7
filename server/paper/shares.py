"""How much each kind of data contributes to the model that sees all three: the paper's SHAP shares beside ours."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from server.paper.entries import Entry, Part, inside_text, limits_text, ours_text, p_range, paper_text
from server.paper.finished import Finished
from server.paper.published import COMBINATIONS, IMAGE_SHARE, Printed
from server.results import OverSeeds
from server.tables import Cell, Table, TableRow, number

CLASSES = {"sarcopenia": "With sarcopenia", "non_sarcopenia": "Without sarcopenia"}
MODALITIES = ("image", "clinical", "lab")
TITLES = {"image": "Ultrasound", "clinical": "Clinical", "lab": "Laboratory"}
DEFINITION = "share of the mean absolute Shapley values, participants; interval: bootstrap of participants"

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Share:
    """One kind of data in one class of participants."""

    of: str
    modality: str
    paper: Printed | None
    ours: OverSeeds | None


def explained(run: Finished) -> Mapping[str, Json]:
    """What the run holds on the model that sees all three kinds of data, by seed; empty when it holds nothing."""
    found: Mapping[str, Mapping[str, Json]] = run.results.tables.get("explanation") or {}
    of_all = run.arm(COMBINATIONS[-1])
    return found.get(of_all or "") or next((of for of in found.values() if _has_all(of)), {})


def _has_all(seeds: Mapping[str, Json]) -> bool:
    return any(set(MODALITIES) <= set(_shares(of, "sarcopenia")) for of in seeds.values())


def _shares(of_seed: Json, of: str) -> Json:
    return (of_seed.get("shares") or {}).get(of) or {}


def modality_shares(run: Finished) -> list[Share]:
    """Shares by class and kind of data; empty when the run holds none."""
    seeds = list(explained(run).values())
    printed = IMAGE_SHARE.get(run.protocol, {})
    shares = [
        Share(
            of,
            kind,
            paper=printed.get(of) if kind == "image" else None,
            ours=json_over_seeds(_shares(of_seed, of).get(kind) for of_seed in seeds),
        )
        for of in CLASSES
        for kind in MODALITIES
    ]
    return shares if any(share.ours for share in shares) else []


def json_over_seeds(estimates: Iterable[Json | None]) -> OverSeeds | None:
    """Estimates as JSON (value, low, high), one for each seed; None without any value."""
    found = [estimate for estimate in estimates if estimate and estimate.get("value") is not None]
    if not found:
        return None
    values = [float(estimate["value"]) for estimate in found]
    lows, highs = ([float(e[key]) for e in found if e.get(key) is not None] for key in ("low", "high"))
    return OverSeeds(
        mean=fmean(values),
        low=fmean(lows) if len(lows) == len(values) else None,
        high=fmean(highs) if len(highs) == len(values) else None,
        sd=stdev(values) if len(values) > 1 else None,
        least=min(values),
        most=max(values),
        seeds=len(values),
        n=None,
        n_positive=None,
    )


def shares_part(run: Finished) -> Part | None:
    """The shares as a grid; None when the run holds none."""
    entries = tuple(
        Entry(f"{CLASSES[s.of]}: {TITLES[s.modality]}", "Share", DEFINITION, paper=s.paper, ours=s.ours)
        for s in modality_shares(run)
    )
    if not entries:
        return None
    rows = tuple(TableRow(tuple(map(Cell, _texts(entry))), lead=entry.paper is not None) for entry in entries)
    head = ("Class: data", "Paper", "Ours", "95 % interval", "Difference", "Paper inside", "SD of seeds")
    note = (
        "Exact Shapley values over the eight coalitions of three kinds of data. The paper names a SHAP library that "
        "does not exist, and prints the share of ultrasound only. A share says how far a kind of data moves the score, "
        "not whether it moves it rightly: see the AUC that is lost without it."
    )
    return Part(Table(f"Shares of the contributions{_of(run)}.", head, rows), entries, note)


def _texts(entry: Entry) -> tuple[str, ...]:
    shown, limits = _estimate(entry)
    difference = number(entry.difference, 3, signed=True)
    spread = number(entry.ours.sd if entry.ours else None, 3)
    return entry.group, paper_text(entry), shown, limits, difference, inside_text(entry), spread


def _estimate(entry: Entry, *, signed: bool = False) -> tuple[str, str]:
    ours = entry.ours
    if ours is None:
        return ours_text(entry), limits_text(None, None, 3)
    return number(ours.mean, 3, signed=signed), limits_text(ours.low, ours.high, 3, signed=signed)


def without_part(run: Finished) -> Part | None:
    """AUC without each kind of data, and what is lost; None when the run holds none."""
    seeds = list(explained(run).values())
    entries: list[Entry] = []
    rows = []
    for kind in MODALITIES:
        found = [(of.get("drop_one_auc") or {}).get(kind) or {} for of in seeds]
        group = f"Without {TITLES[kind].lower()}"
        losses = json_over_seeds(each.get("difference") for each in found)
        without = Entry(group, "AUC", "participants; interval: DeLong", ours=json_over_seeds(found))
        lost = Entry(group, "AUC lost", "with everything minus without, paired; interval: DeLong", ours=losses)
        p_values = [float(each["p_holm"]) for each in found if each.get("p_holm") is not None]
        entries += [without, lost]
        rows.append(
            TableRow(tuple(map(Cell, (group, *_estimate(without), *_estimate(lost, signed=True), p_range(p_values)))))
        )
    if not any(entry.ours for entry in entries):
        return None
    head = ("All kinds of data but one", "AUC", "95 % interval", "AUC lost", "95 % interval", "P (Holm)")
    caption = f"What is lost without each kind of data (ours){_of(run)}."
    return Part(Table(caption, head, tuple(rows)), tuple(entries))


def _of(run: Finished) -> str:
    return ", complete cases" if run.protocol == "complete_cases" else ""
