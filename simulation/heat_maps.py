"""Grad-CAM of an arm's model on people that it was not trained on: put to the test first, shown second.

The picture has the plain view beside the maps and the verdict beneath them. It is drawn of synthetic people only: no
pixel of a real person enters a report.
"""

import json
import os
import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sarco_models.config import ImageConfig
from sarco_models.saliency import grad_cam
from sarco_models.saliency_checks import ADVICE, Maps
from sarco_models.saliency_trial import ASKED, Trial, Views, put_to_the_test
from server.arms import arm_name
from server.drawing import INK, MUTED, STYLE, WARNING
from server.runs import write_json
from simulation.arms import Arm
from simulation.explained import Explained, cohort_folder, is_synthetic, views

STRIDES = (32, 16, 8)
"""The usual layer, the last before pooling, and two finer ones."""

SHOWN = (32, 8)
PEOPLE = 48
"""Held-out participants whose maps are checked, one image each."""

KEPT = "heat_maps.json"
VERSION = 1
"""Raise it when the same maps would be judged otherwise, so that nothing stale is read."""

TILE_IN = 0.98
OUTLINE = "#56B4E9"


def explain_images(arm: Arm, folder: Path, *, count: int = 12) -> dict[str, Any]:
    """Check the Grad-CAM maps of a finished arm, and draw those of synthetic people.

    Args:
        arm: of a study with images, whose run has released its model.
        folder: for ``gradcam_ARM-SEED.png``, ``:`` and ``@`` of the arm's name being ``-``.
        count: people in the picture, half of each class.

    Returns:
        cohort, n, n_positive, picture (name of the file, or None) and layers: for each stride cell_mm, n, n_few, empty,
        checks {name: {asked, value, low, high, passed}}, wrecks [{value, low, high}], beside, failed, verdict.

    Raises:
        ConfigError: the study reads no image.
        RunError: no model was released.
    """
    torch.set_num_threads(1)
    which = Explained.of(arm)
    model, cfg = which.reader.model, arm.study.image
    seen = views(cohort_folder(arm, which.place), which.people, arm.study, PEOPLE)
    strides = tuple(stride for stride in STRIDES if stride <= cfg.size // 2)
    key = {"version": VERSION, "model": which.run.released, "strides": list(strides), "people": len(seen)}
    trials = _kept(arm.folder / KEPT, key)
    if trials is None:
        rng = np.random.default_rng([arm.study.training.seed, arm.study.split.fold, 48])
        trials = {
            str(trial.stride): _as_dict(trial, _cell_mm(trial.stride, cfg))
            for trial in put_to_the_test(model, seen, strides, rng)
        }
        write_json(arm.folder / KEPT, {"key": key, "layers": trials})
    picture = None
    if is_synthetic(arm) and len(seen):
        picture = f"gradcam_{arm.name.replace(':', '-').replace('@', '-')}-{arm.study.training.seed}.png"
        some = _half_of_each(seen, count)
        maps = {stride: grad_cam(model, some.pixels, stride) for stride in SHOWN if stride in strides}
        _draw(arm, some, maps, trials, folder / picture)
    return {
        "cohort": which.place,
        "n": len(seen),
        "n_positive": int(seen.labels.sum()),
        "picture": picture,
        "layers": trials,
    }


def _kept(path: Path, key: Mapping[str, Any]) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    return dict(found["layers"]) if found["key"] == key else None


def _cell_mm(stride: int, cfg: ImageConfig) -> float | None:
    """Side of a cell of the map, where every image has the same millimetres per pixel."""
    return stride * cfg.window_mm / cfg.size if cfg.framing == "physical" else None


def _as_dict(trial: Trial, cell_mm: float | None) -> dict[str, Any]:
    return {
        "cell_mm": cell_mm,
        "n": trial.people,
        "n_few": trial.few,
        "empty": trial.empty,
        "checks": {
            name: {
                "asked": ASKED[name],
                **(asdict(check.found) if check.found else dict.fromkeys(("value", "low", "high"))),
                "passed": check.passed,
            }
            for name, check in trial.checks.items()
        },
        "wrecks": [asdict(wreck) for wreck in trial.wrecks],
        "beside": {name: asdict(found) for name, found in trial.beside.items()},
        "failed": list(trial.failed),
        "verdict": trial.verdict(cell_mm),
    }


# --- the picture ------------------------------------------------------------------------------------------------------


def _half_of_each(seen: Views, count: int) -> Views:
    """The first people of each class, those with sarcopenia first."""
    chosen = np.concatenate([np.flatnonzero(seen.labels == label)[: count // 2] for label in (True, False)])
    return seen.only(chosen)


def _draw(arm: Arm, some: Views, maps: Mapping[int, Maps], layers: Mapping[str, Any], path: Path) -> None:
    """Six people to a line: the view, and under it each layer's map on it, with the muscle's outline."""
    disease = arm.study.label.column.replace("_", " ")
    classes = {f"With {disease}": some.labels, f"Without {disease}": ~some.labels}
    groups = [(name, np.flatnonzero(who)) for name, who in classes.items() if who.any()]
    columns, lines = max(who.size for _, who in groups), 1 + len(maps)
    verdicts = [f"{_layer(stride)}: {layers[str(stride)]['verdict']}" for stride in maps]
    verdicts += [ADVICE] if any(layers[str(stride)]["failed"] for stride in maps) else []
    words = "\n".join("\n".join(textwrap.wrap(sentence, 26 + 17 * columns)) for sentence in [_SCALE, *verdicts])
    top, gap, bottom, left = 0.5, 0.3, 0.2 + 0.15 * (words.count("\n") + 1), 1.35
    width = left + columns * (TILE_IN + 0.04) + 0.1
    height = top + len(groups) * (gap + lines * (TILE_IN + 0.04)) + bottom
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        figure.text(0.08 / width, 1 - 0.2 / height, "SYNTHETIC: no such persons exist", color=WARNING, weight="bold")
        seed = arm.study.training.seed
        head = f"{arm_name(arm.name)}, seed {seed}: Grad-CAM of people whom nobody trained on, drawn by a hash"
        figure.text(0.08 / width, 1 - 0.38 / height, head, color=INK)
        y = height - top
        for name, who in groups:
            y -= gap
            figure.text(left / width, (y + 0.08) / height, name, color=INK, weight="bold")
            for line, (title, of) in enumerate(_lines(maps).items()):
                y -= TILE_IN + 0.04
                figure.text(0.08 / width, (y + TILE_IN / 2) / height, title, color=MUTED, va="center", fontsize=7.5)
                for column, person in enumerate(who):
                    x = left + column * (TILE_IN + 0.04)
                    axes = figure.add_axes((x / width, y / height, TILE_IN / width, TILE_IN / height))
                    _tile(axes, some, int(person), None if of is None else maps[of][person], outline=line > 0)
        figure.text(0.08 / width, (bottom - 0.12) / height, words, color=INK, va="top", fontsize=7.5)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        figure.savefig(partial, format="png", dpi=150, facecolor="white")
        partial.rename(path)


_SCALE = "Bright: speaks for the disease. Each map is scaled to its own largest value; a dark one speaks for nothing."


def _layer(stride: int) -> str:
    return "Usual layer" if stride == max(STRIDES) else f"Finer layer (1/{stride})"


def _lines(maps: Mapping[int, Maps]) -> dict[str, int | None]:
    named = {f"{_layer(stride)},\nGrad-CAM": stride for stride in maps}
    return {"What the\nnetwork sees": None, **named}


def _tile(axes: Axes, some: Views, person: int, heat: NDArray[np.float32] | None, *, outline: bool) -> None:
    axes.imshow(some.pixels[person], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    if heat is not None:
        strength = heat / heat.max() if heat.max() > 0 else heat
        axes.imshow(strength, cmap="inferno", vmin=0, vmax=1, alpha=0.15 + 0.55 * strength, interpolation="nearest")
    if outline and some.muscle is not None and some.muscle[person].any():
        axes.contour(some.muscle[person], levels=[0.5], colors=[OUTLINE], linewidths=0.7)
    axes.set_axis_off()
