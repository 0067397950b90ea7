"""The part of a report that says what masks are worth: models on masks that they were not trained with.

It reads three tables of results.json. ``other_masks``: {arm: {seed: what simulation.other_masks has found}};
``found_masks``: {variant: {seed: how found masks compare with drawn ones}}; ``segmenter``: how the model was made that
found them. Nothing here is of a single person.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from textwrap import fill
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from server.arms import arm_name, variant_title
from server.drawing import INK, LEAD, MUTED, PALE, STYLE, WARNING, WIDTH
from server.explanations import Section, over_seeds
from server.people_tables import HIDDEN
from server.results import OverSeeds, Results
from server.tables import ABSENT, Cell, Table, TableRow, interval, number, p_range, share, summary

TITLE = "What the masks are worth"
FIGURE = "AUC on other masks"
MOST_PANELS = 4
_WAYS = {
    "up": "up",
    "up_right": "up and right",
    "right": "right",
    "down_right": "down and right",
    "down": "down",
    "down_left": "down and left",
    "left": "left",
    "up_left": "up and left",
}
_VIEWS = {"auto": "Found by a model", "none": "None: the whole picture"}
_IN_A_SENTENCE = {"auto": "with masks found by a model", "none": "without masks"}
Seeds = Sequence[Mapping[str, Any]]
"""What was found with each seed of an arm or a variant."""


def section(results: Results) -> Section | None:
    """The section; None where the run has tried no other masks and found none itself."""
    tried, found = _by_seed(results, "other_masks"), _by_seed(results, "found_masks")
    if not tried and not found:
        return None
    made = (_tried_table(results, tried), _found_table(results, found))
    drawn = other_masks_figure(results)
    return Section(
        TITLE,
        tuple(_paragraphs(results, tried, found)),
        tuple(table for table in made if table.rows),
        {FIGURE: drawn} if drawn else {},
    )


def _by_seed(results: Results, name: str) -> dict[str, Seeds]:
    table: dict[str, dict[str, Any]] = results.tables.get(name) or {}
    return {key: [seeds[seed] for seed in sorted(seeds, key=int)] for key, seeds in table.items() if seeds}


# --- rows of one arm --------------------------------------------------------------------------------------------------


def _each(seeds: Seeds) -> Iterator[tuple[str, Seeds]]:
    """Name of each kind of masks, and what was found with it in each seed."""
    for row in seeds[0]["rows"]:
        same = [
            other
            for s in seeds
            for other in s["rows"]
            if all(other.get(k) == row.get(k) for k in ("change", "mm", "view"))
        ]
        yield masks_name(row), same


def masks_name(row: Mapping[str, Any]) -> str:
    """What the masks of a row are, in words, such as "1 mm larger all round"."""
    if "view" in row:
        return _VIEWS.get(str(row.get("roi")), str(row["view"]).replace("_", " "))
    change, mm = str(row["change"]), f"{row['mm']:g} mm"
    if change in ("dilate", "erode"):
        return f"{mm} {'larger' if change == 'dilate' else 'smaller'} all round"
    return f"Moved by {mm}, each image its own way" if change == "shift" else f"Moved by {mm} {_WAYS[change]}"


def _mean(rows: Seeds, key: str) -> float | None:
    values = [row[key] for row in rows if row.get(key) is not None]
    return fmean(values) if values else None


def _sum(rows: Seeds, key: str) -> int | None:
    """Over all seeds; None where a part of it is withheld. What a row does not have is nobody's."""
    values = [row.get(key, 0) for row in rows]
    return None if None in values else sum(values)


def _counted(value: int | None, whole: int | None = None) -> str:
    return HIDDEN if value is None else share(value, whole)


def _percent(value: float | None, digits: int = 0) -> str:
    return ABSENT if value is None else f"{100 * value:.{digits}f} %"


# --- tables -----------------------------------------------------------------------------------------------------------


def _tried_table(results: Results, tried: Mapping[str, Seeds]) -> Table:
    rows = []
    for arm, seeds in tried.items():
        people = f"{seeds[0]['n']} participants, {seeds[0]['n_positive']} positive"
        rows.append(TableRow(divider=f"{arm_name(arm, results.meta.titles)}: {people}"))
        auc = summary(over_seeds(s["auc"] for s in seeds), 3)
        rows.append(TableRow((Cell("As drawn"), Cell(number(1.0, 2)), auc, *(Cell(ABSENT),) * 4), lead=True))
        rows += [TableRow(_cells(name, found)) for name, found in _each(seeds)]
    return Table(
        "The same models, thresholds and people on other masks; P is not adjusted for the number of masks tried.",
        (
            "Masks",
            "Dice with drawn",
            "AUC",
            "Difference",
            "P (paired DeLong)",
            "Mean change of the probability",
            "Called otherwise",
        ),
        tuple(rows),
    )


def _cells(name: str, found: Seeds) -> tuple[Cell, ...]:
    as_drawn = _sum(found, "as_drawn")
    left = "few" if as_drawn is None else str(as_drawn)
    below = () if as_drawn == 0 else (f"{left} images left as drawn",)
    return (
        Cell(name, below),
        Cell(number(_mean(found, "dice"), 2)),
        summary(over_seeds(row.get("auc") for row in found), 3),
        summary(over_seeds(row.get("difference") for row in found), 3, signed=True),
        Cell(p_range(row["p"] for row in found if row.get("p") is not None)),
        Cell(number(_mean(found, "moved"), 3)),
        Cell(_percent(_mean(found, "called_otherwise"), 1)),
    )


def _found_table(results: Results, found: Mapping[str, Seeds]) -> Table:
    rows = []
    for variant, seeds in found.items():
        images = _sum(seeds, "images")
        title = variant_title(variant, results.meta.titles)
        rows.append(
            TableRow(
                (
                    Cell(title[:1].upper() + title[1:] or "The study itself"),
                    Cell(_counted(images)),
                    *(Cell(_counted(_sum(seeds, f"images_{key}"), images)) for key in ("drawn", "found", "tissue")),
                    Cell(_counted(_sum(seeds, "checked"))),
                    summary(over_seeds(s.get("dice") for s in seeds), 3),
                    summary(over_seeds(s.get("area_ratio") for s in seeds), 2),
                )
            )
        )
    withheld = f" {HIDDEN.capitalize()}: it would tell of a few people." if _withheld(found) else ""
    head = ("Study", "Images", "Drawn", "Found", "Without a good mask", "Checked", "Dice", "Found over drawn area")
    caption = f"Where masks came from, and how those that were found agree with drawn ones.{withheld}"
    return Table(caption, head, tuple(rows))


def _withheld(found: Mapping[str, Seeds]) -> bool:
    """Whether any count is not shown."""
    return any(value is None for seeds in found.values() for one in seeds for value in one.values())


# --- words ------------------------------------------------------------------------------------------------------------


def _paragraphs(results: Results, tried: Mapping[str, Seeds], found: Mapping[str, Seeds]) -> Iterator[str]:
    if tried:
        yield (
            "Finished models were scored again on other masks. Weights, scaling, threshold and people are the same; "
            "only the outline is different, so that the difference of a score is the outline's alone."
        )
        yield from (_hardest(results, arm, seeds) for arm, seeds in tried.items())
    if found:
        yield (
            "Found masks are those of a segmentation model; where its quality score was too low the whole picture was "
            "shown. The classifier does not see what people have drawn there; for the check, one image each of some "
            "people was looked at beside its drawn mask. Dice and area are of found masks alone."
        )
    yield from _of_segmenter(results.tables.get("segmenter") or {})
    if (results.meta.study.get("model") or {}).get("weights") == "phantom":
        yield (
            "The image network begins with weights that were learned on phantoms cut to their masks: without masks it "
            "begins further from what it sees, and only a part of it is trained."
        )
    if results.meta.synthetic:
        yield (
            "What this cannot tell: the images are computer-made, and all that the condition changes was put there. "
            "Whether a muscle's outline or its surroundings tell of the condition in patients, and how well a model "
            "finds muscles in their images, only their images can say."
        )


def _hardest(results: Results, arm: str, seeds: Seeds) -> str:
    """The change of masks that moves the AUC most, in a sentence."""
    known = [
        (name, over, rows) for name, rows in _each(seeds) if (over := over_seeds(r.get("difference") for r in rows))
    ]
    title = arm_name(arm, results.meta.titles)
    if not known:
        return f"{title}: too few people for a difference of AUC."
    name, over, rows = max(known, key=lambda each: abs(each[1].mean))
    otherwise = _percent(_mean(rows, "called_otherwise"))
    calls = f"; {otherwise} of the people are called otherwise" if otherwise != ABSENT else ""
    masks = _IN_A_SENTENCE.get(str(rows[0].get("roi")), f"with masks {name[:1].lower() + name[1:]}")
    return (
        f"{title}: the largest change of the AUC is {number(over.mean, 3, signed=True)} "
        f"({interval(over, 3, signed=True)}), {masks}{calls}."
    )


def _of_segmenter(about: Mapping[str, Any]) -> Iterator[str]:
    if not about:
        return
    scores = "; ".join(
        f"{muscle.replace('_', ' ')} Dice {number(d['value'], 3)} ({number(d['low'], 3)} to {number(d['high'], 3)}) on "
        f"{d['n']} people"
        for muscle, d in about.get("dice", {}).items()
    )
    yield (
        f"The experiment has trained that model itself, in {about['rounds']} federated rounds "
        f"({about['seconds'] / 60:.1f} minutes), on {about['participants']} participants with {about['images']} "
        f"images: computer-made people of seed {about['seed']}, none of whom is in this comparison"
        + (f". People whom neither has seen: {scores}." if scores else ".")
    )


# --- figure -----------------------------------------------------------------------------------------------------------


def other_masks_figure(results: Results) -> bytes | None:
    """Difference of the AUC for each kind of masks with its interval, a panel for each arm, as a PNG."""
    tried = list(_by_seed(results, "other_masks").items())[:MOST_PANELS]
    panels = [(arm, lines) for arm, seeds in tried if (lines := list(_differences(seeds)))]
    if not panels:
        return None
    most = max(len(lines) for _, lines in panels)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.3 + 0.27 * most), layout="constrained")
        drawn = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
        for axes, (arm, lines) in zip(drawn, panels, strict=True):
            _panel(axes, lines, fill(arm_name(arm, results.meta.titles), 60 // len(panels)), first=axes is drawn[0])
        figure.supxlabel("AUC minus that on drawn masks (95 % interval)", fontsize=8.5)
        if results.meta.synthetic:
            figure.suptitle("SYNTHETIC DATA", x=0.005, ha="left", fontsize=8.5, color=WARNING, weight="bold")
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=200, facecolor="white")
    return file.getvalue()


def _differences(seeds: Seeds) -> Iterator[tuple[str, OverSeeds]]:
    for name, rows in _each(seeds):
        over = over_seeds(row.get("difference") for row in rows)
        if over:
            yield name, over


def _panel(axes: Axes, lines: Sequence[tuple[str, OverSeeds]], title: str, *, first: bool) -> None:
    for y, (_, over) in enumerate(lines):
        if over.low is not None and over.high is not None:
            axes.plot([over.low, over.high], [y, y], color=LEAD, linewidth=1.6)
        axes.plot([over.mean], [y], "o", color=LEAD, markersize=4.5)
        axes.text(
            1.01,
            y,
            number(over.mean, 3, signed=True),
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=7,
            color=MUTED,
        )
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_title(title)
    axes.set_yticks(range(len(lines)), [name for name, _ in lines])
    axes.grid(axis="x", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    if first:
        axes.invert_yaxis()
