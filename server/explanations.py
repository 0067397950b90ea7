"""The part of a report that says what the models owe to each kind of data, and what their heat maps are worth.

It reads ``tables.explanation`` of results.json: {arm: {seed: what simulation.explanations has found}}. A share is never
shown without the AUC beside it, and a heat map never without its checks.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from sarco_models.saliency_checks import ADVICE
from server.arms import arm_name
from server.drawing import MUTED, PALE, STYLE, WARNING, WIDTH, with_interval
from server.results import OverSeeds, Results
from server.tables import ABSENT, Cell, Table, TableRow, interval, number, p_range, summary

TITLE = "What the model goes by"
GROUPS = {
    "sarcopenia": ("With {condition}", "#D55E00"),
    "non_sarcopenia": ("Without {condition}", "#0072B2"),
    "all": ("All", "#9aa0a6"),
    "called_positive": ("Called positive", ""),
    "called_negative": ("Called negative", ""),
}
"""Name for people, and colour of those that are drawn (the paper's three)."""

MODALITIES = {"clinical": "Clinical", "lab": "Laboratory"}
MOST_FEATURES = 10
MOST_PANELS = 4
OPACITY = 0.85
USUAL_LAYER = "32"
Seeds = Sequence[Mapping[str, Any]]
"""What was found with each seed of an arm."""


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        title: its heading.
        paragraphs: plain sentences, no markup.
        tables: in their order.
        figures: name -> a PNG's bytes, or the path of one.
    """

    title: str
    paragraphs: tuple[str, ...]
    tables: tuple[Table, ...]
    figures: Mapping[str, bytes | Path] = field(default_factory=dict)


def section(results: Results, folder: Path | None = None) -> Section | None:
    """The section; None where the run holds no explanation.

    Args:
        results: of the run.
        folder: of the run, for the heat maps in its ``explanation``; shown of synthetic people only.
    """
    found = _explained(results)
    if not found:
        return None
    makers = (_shares_table, _auc_table, _features_table, _checks_table)
    tables = [table for make in makers if (table := make(results, found)).rows]
    drawn = shares_figure(results)
    figures: dict[str, bytes | Path] = {"Shares of each kind of data": drawn} if drawn else {}
    if folder and results.meta.synthetic:
        figures |= _pictures(results, found, folder / "explanation")
    return Section(TITLE, tuple(_paragraphs(results, found)), tuple(tables), figures)


def _pictures(results: Results, found: Mapping[str, Seeds], folder: Path) -> dict[str, Path]:
    """The heat maps of the first seed of each arm that has any."""
    first = {arm: next((i["picture"] for i in _images(s) if i.get("picture")), "") for arm, s in found.items()}
    paths = {arm: folder / Path(name).name for arm, name in first.items() if name}
    return {f"Grad-CAM, {arm_name(arm, results.meta.titles)}": p for arm, p in paths.items() if p.is_file()}


def _explained(results: Results) -> dict[str, Seeds]:
    """Arm -> what was found with each seed, in the order of the report."""
    table: dict[str, dict[str, Any]] = results.tables.get("explanation") or {}
    order = [*(arm for arm in results.arms if arm in table), *(arm for arm in table if arm not in results.arms)]
    return {arm: [table[arm][seed] for seed in sorted(table[arm], key=int)] for arm in order if table[arm]}


def over_seeds(found: Iterable[Mapping[str, Any] | None]) -> OverSeeds | None:
    """One number (``value``, ``low``, ``high``) over seeds; None where no seed has it."""
    known = [f for f in found if f and f.get("value") is not None]
    if not known:
        return None
    values = [f["value"] for f in known]
    spread = stdev(values) if len(values) > 1 else None
    low, high = fmean(f["low"] for f in known), fmean(f["high"] for f in known)
    return OverSeeds(fmean(values), low, high, spread, min(values), max(values), len(values), None, None)


def _modalities(seeds: Seeds) -> list[str]:
    return list(dict.fromkeys(name for found in seeds for name in found.get("shares", {}).get("all", {})))


def _with_shares(found: Mapping[str, Seeds]) -> dict[str, Seeds]:
    """Arms whose contributions were asked for; of others the run holds heat maps alone."""
    return {arm: seeds for arm, seeds in found.items() if _modalities(seeds)}


def _name(modality: str, images: str) -> str:
    said = images or modality if modality == "image" else modality.replace("_", " ")
    return MODALITIES.get(modality, said.capitalize())


def _people(results: Results, arm: str, found: Mapping[str, Any]) -> str:
    """Such as "Pooled: 99 participants, 33 positive"."""
    return f"{arm_name(arm, results.meta.titles)}: {found['n']} participants, {found['n_positive']} positive"


# --- tables -----------------------------------------------------------------------------------------------------------


def _shares_table(results: Results, found: Mapping[str, Seeds]) -> Table:
    rows = []
    for arm, seeds in _with_shares(found).items():
        rows.append(TableRow(divider=_people(results, arm, seeds[0])))
        for modality in _modalities(seeds):
            each = (over_seeds(s["shares"].get(group, {}).get(modality) for s in seeds) for group in GROUPS)
            cells = [summary(shown, 3) for shown in each]
            rows.append(TableRow((Cell(_name(modality, results.images)), *cells)))
    caption = "Share of each kind of data in the model's scores (mean absolute Shapley value, over the sum of all)."
    return Table(
        caption,
        ("Kind of data", *(name.format(condition=results.condition) for name, _ in GROUPS.values())),
        tuple(rows),
    )


def _auc_table(results: Results, found: Mapping[str, Seeds]) -> Table:
    rows = []
    for arm, seeds in _with_shares(found).items():
        full = over_seeds(s["full_auc"] for s in seeds)
        if full is None:
            continue
        rows.append(TableRow(divider=_people(results, arm, seeds[0])))
        rows.append(TableRow((Cell("Everything"), summary(full, 3), *(Cell(ABSENT),) * 4), lead=True))
        for modality in _modalities(seeds):
            without, alone = ([s[key].get(modality) for s in seeds] for key in ("drop_one_auc", "alone_auc"))
            lost = over_seeds(w and w["difference"] for w in without)
            p = p_range(w["p_holm"] for w in without if w)
            own = summary(over_seeds(without), 3), summary(lost, 3, signed=True), Cell(p), summary(over_seeds(alone), 3)
            rows.append(TableRow((Cell(_name(modality, results.images)), Cell(ABSENT), *own)))
    head = ("Kind of data", "AUC", "AUC without it", "Lost without it", "P (Holm)", "AUC of it alone")
    caption = (
        "The same model, the same people: AUC when one kind of data, or all others, are those of background people."
    )
    return Table(caption, head, tuple(rows))


def _features_table(results: Results, found: Mapping[str, Seeds]) -> Table:
    rows = []
    for arm, seeds in _with_shares(found).items():
        names = dict.fromkeys(name for s in seeds for name in s["features"])
        over = {name: o for name in names if (o := over_seeds(s["features"].get(name) for s in seeds))}
        largest = sorted(over, key=lambda name: -over[name].mean)[:MOST_FEATURES]
        if largest:
            rows.append(TableRow(divider=arm_name(arm, results.meta.titles)))
        rows += [
            TableRow((Cell(name), Cell(number(over[name].mean, 3)), Cell(_limits(over[name])))) for name in largest
        ]
    head = ("Feature", "Mean |SHAP|, logits", "95 % interval")
    return Table(f"The {MOST_FEATURES} features of the tables that move the score most.", head, tuple(rows))


def _limits(found: OverSeeds) -> str:
    return interval(found, 3) or ABSENT


def _checks_table(results: Results, found: Mapping[str, Seeds]) -> Table:
    rows = []
    layers = _layers(found)
    for arm, seeds in found.items():
        images = _images(seeds)
        if not images:
            continue
        n = f"{images[0]['n']} participants, one image each"
        rows.append(TableRow(divider=f"{arm_name(arm, results.meta.titles)}: {n}"))
        names = dict.fromkeys(c for i in images for layer in i["layers"].values() for c in layer["checks"])
        for name in names:
            checks = {s: [i["layers"][s]["checks"][name] for i in images if s in i["layers"]] for s in layers}
            asked = next(c["asked"] for of_layer in checks.values() for c in of_layer)
            rows.append(TableRow((Cell(f"A map {asked}"), *(_check(of_layer) for of_layer in checks.values()))))
        rows.append(TableRow((Cell("Maps that are empty"), *(_empty(images, s) for s in layers))))
    head = ("Asked", *(layers[s] for s in layers))
    return Table("Grad-CAM put to the test: what is asked of a map, and what came out.", head, tuple(rows))


def _images(seeds: Seeds) -> list[Mapping[str, Any]]:
    return [s["images"] for s in seeds if s.get("images")]


def _layers(found: Mapping[str, Seeds]) -> dict[str, str]:
    """Stride -> name for people, the usual layer first."""
    images = [i for seeds in found.values() for i in _images(seeds)]
    strides = sorted({s for i in images for s in i["layers"]}, key=int, reverse=True)
    return {s: ("Usual layer" if s == USUAL_LAYER else f"Finer layer, 1/{s}") for s in strides}


def _check(of_layer: Sequence[Mapping[str, Any]]) -> Cell:
    over = over_seeds(of_layer)
    if over is None:
        return Cell("no map" if of_layer else ABSENT)
    passed = sum(c["passed"] for c in of_layer)
    verdict = ("yes" if passed else "no") if len(of_layer) == 1 else f"yes in {passed} of {len(of_layer)} seeds"
    return Cell(number(over.mean, 2), tuple(line for line in (interval(over, 2), verdict) if line))


def _empty(images: Sequence[Mapping[str, Any]], stride: str) -> Cell:
    counts = sorted(i["layers"][stride]["empty"] for i in images if stride in i["layers"])
    if not counts:
        return Cell(ABSENT)
    return Cell(f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}")


# --- words ------------------------------------------------------------------------------------------------------------


def _paragraphs(results: Results, found: Mapping[str, Seeds]) -> Iterable[str]:
    asked = _with_shares(found)
    if asked:
        yield from _contributions(results, asked)
    yield from _verdicts(results, found)


def _contributions(results: Results, found: Mapping[str, Seeds]) -> Iterable[str]:
    first = next(iter(found.values()))[0]
    yield (
        "Exact Shapley values over all combinations of the kinds of data, in logits. Something is taken from a person "
        f"by putting that of {first['background']} training participants in its place, one after another, and taking "
        "the mean. What a person lacks stays absent and contributes nothing. Intervals are of participants drawn "
        "again, with the model as it is; another training run would differ by more."
    )
    yield first["note"]
    if any(s.get("folds", 1) > 1 for seeds in found.values() for s in seeds):
        yield (
            "In a cross-validation each person is explained by the model of a fold that did not train on the person; "
            "draws of one fold are averaged in logits. The AUCs here are those of the out-of-fold logits as they are."
        )
    if results.condition == "sarcopenia":
        yield (
            "The paper's shares of ultrasound (.787 in sarcopenia, .823 in others) come from a library that it does "
            "not define, and without such a table of AUCs: they are not comparable with ours."
        )
    counts = {s["n_features_explained"] for seeds in found.values() for s in seeds if s["features"]}
    if counts:
        yield (
            f"Features: SHAP values within the tables, the image as it is, for a random subset of {_span(counts)} "
            "people, for time. Correlated features share their part by the model's habits, not by nature."
        )


def _span(counts: set[int]) -> str:
    least, most = min(counts), max(counts)
    return f"{least}" if least == most else f"{least} to {most}"


def _verdicts(results: Results, found: Mapping[str, Seeds]) -> Iterable[str]:
    """What the checks say of each layer's maps, of the first seed, with what it was in the others."""
    names = _layers(found)
    for arm, seeds in found.items():
        images = _images(seeds)
        if not images:
            continue
        said = " ".join(f"{names[s]}: {layer['verdict']}" for s, layer in images[0]["layers"].items())
        seed = f"first of {len(images)} seeds" if len(images) > 1 else "one seed"
        yield f"Grad-CAM, {arm_name(arm, results.meta.titles)} ({seed}). {said}"
    if names:
        yield (
            f"{ADVICE} Weights were destroyed several times; a map passes when it is unlike those of every wreck. What "
            "a network goes by is told by changing one thing in an image at a time, not by a map that looks right."
        )


# --- figure -----------------------------------------------------------------------------------------------------------


def shares_figure(results: Results) -> bytes | None:
    """Bars of the shares with intervals, one panel for each arm, as a PNG; None where there are none."""
    found = _with_shares(_explained(results))
    chosen = [arm for arm in sorted(found, key=lambda arm: arm != results.lead)][:MOST_PANELS]
    if not chosen:
        return None
    most = max(len(_modalities(found[arm])) for arm in chosen)
    columns = min(2, len(chosen))
    lines = -(-len(chosen) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.75 + lines * (0.55 + 0.55 * most)), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False, sharex=True).ravel()
        for axes, arm in zip(panels, chosen, strict=False):
            _panel(axes, found[arm], arm_name(arm, results.meta.titles), results.images)
        for axes in panels[len(chosen) :]:
            axes.set_axis_off()
        for axes in panels[max(0, len(chosen) - columns) : len(chosen)]:
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("Share of the score (95 % interval)")
        drawn = {name.format(condition=results.condition): colour for name, colour in GROUPS.values() if colour}
        handles = [Patch(color=colour, alpha=OPACITY, label=name) for name, colour in drawn.items()]
        figure.legend(handles=handles, loc="outside upper right", ncols=3)
        if results.meta.synthetic:
            figure.suptitle("SYNTHETIC DATA", x=0.005, ha="left", fontsize=8.5, color=WARNING, weight="bold")
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=200, facecolor="white")
    return file.getvalue()


def _panel(axes: Axes, seeds: Seeds, title: str, images: str) -> None:
    modalities, drawn = _modalities(seeds), [g for g, (_, colour) in GROUPS.items() if colour]
    for k, group in enumerate(drawn):
        colour = GROUPS[group][1]
        over = [over_seeds(s["shares"].get(group, {}).get(m) for s in seeds) for m in modalities]
        for place, o in zip(np.arange(len(modalities)) + 0.27 * (k - 1), over, strict=True):
            if o is None or o.low is None or o.high is None:
                continue
            axes.barh(place, o.mean, height=0.23, color=colour, alpha=OPACITY)
            axes.plot([o.low, o.high], [place, place], color="black", linewidth=1.0)
            axes.text(o.high + 0.015, place, with_interval(o), va="center", fontsize=7, color=MUTED)
    names = [_name(m, images) for m in modalities]
    axes.set(title=title, yticks=range(len(modalities)), yticklabels=names, xlim=(0, 1.32))
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0])
    axes.spines["bottom"].set_bounds(0, 1)
    axes.grid(axis="x", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.invert_yaxis()
