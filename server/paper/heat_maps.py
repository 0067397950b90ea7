"""Where the image network looks: the run's own Grad-CAM picture, and how its maps did when put to the test."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from server.paper.entries import Entry, Part, limits_text
from server.paper.finished import Finished
from server.paper.published import CHOSEN
from server.paper.shares import json_over_seeds
from server.tables import ABSENT, Cell, Table, TableRow, number

Json = Mapping[str, Any]
NAMES = {"32": "Usual layer, 1/32"}


def _explained(run: Finished) -> Iterator[Json]:
    """Each seed's heat maps of one arm: ultrasound alone as the paper's model, else the first arm that has any."""
    arms: Mapping[str, Mapping[str, Json]] = run.results.tables.get("explanation") or {}
    with_maps = [arm for arm, seeds in arms.items() if any(of.get("images") for of in seeds.values())]
    own = run.arm(CHOSEN)
    arm = own if own in with_maps else next(iter(with_maps), None)
    yield from (images for of in arms.get(arm or "", {}).values() if (images := of.get("images")))


def picture_of(run: Finished) -> Path | None:
    """The picture of the heat maps; None where there is none, or where its people are not said to be synthetic.

    Pixels of real people never leave their hospital, not even into a picture of a page.
    """
    if not run.results.meta.synthetic:
        return None
    folder = run.folder / "explanation"
    named = [folder / Path(str(images["picture"])).name for images in _explained(run) if images.get("picture")]
    return next((path for path in [*named, *sorted(folder.glob("*.png"))] if path.is_file()), None)


def verdicts(run: Finished) -> list[str]:
    """What the first seed's trial says of each layer."""
    first: Json = next(_explained(run), {})
    layers: Mapping[str, Json] = first.get("layers") or {}
    return [f"{_layer(stride)}: {of['verdict']}" for stride, of in layers.items() if of.get("verdict")]


def checks_part(run: Finished) -> Part | None:
    """What was asked of the maps, and their answers; None when the run holds none."""
    seeds = [of for of in _explained(run) if of.get("layers")]
    entries: list[Entry] = []
    rows: list[TableRow] = []
    for stride in dict.fromkeys(stride for of in seeds for stride in of["layers"]):
        checks = [of["layers"][stride].get("checks") or {} for of in seeds if stride in of["layers"]]
        rows.append(TableRow(divider=_layer(stride)))
        for name in dict.fromkeys(name for of in checks for name in of):
            entry, row = _check(_layer(stride), name, [of[name] for of in checks if name in of])
            entries.append(entry)
            rows.append(row)
    if not entries:
        return None
    head = ("Check of the heat maps", "Ours", "95 % interval", "Passed, seeds", "What was asked")
    note = "Participants whom the model was not trained on. The paper shows maps and prints no check."
    return Part(Table("The maps put to the test.", head, tuple(rows), text=(4,)), tuple(entries), note)


def _layer(stride: str) -> str:
    return NAMES.get(stride, f"Finer layer, 1/{stride}")


def _check(layer: str, name: str, found: Iterable[Json]) -> tuple[Entry, TableRow]:
    seeds = list(found)
    asked = str(seeds[0].get("asked") or "")
    entry = Entry(layer, name.replace("_", " "), asked or "participants", ours=json_over_seeds(seeds))
    ours = entry.ours
    limits = limits_text(ours.low if ours else None, ours.high if ours else None, 3)
    judged = [bool(of["passed"]) for of in seeds if of.get("passed") is not None]
    passed = f"{sum(judged)} of {len(judged)}" if judged else ABSENT
    texts = entry.measure.capitalize(), number(ours.mean if ours else None, 3), limits, passed, asked or ABSENT
    return entry, TableRow(tuple(map(Cell, texts)))
