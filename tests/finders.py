"""Studies whose masks are found, and tiny segmentation models for them: one of random weights, and a perfect one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sarco_models.config import StudyConfig, beside
from sarco_models.frames import Frame
from sarco_models.masks import read_mask
from sarco_models.released_segmenter import About, store_segmenter
from sarco_models.segmenter import Found, Segmenter
from sarco_models.unet import build_segmenter
from sarco_models.views import segmentation_view
from tests.muscle_sites import muscle_study
from tests.sites import image_study, read_csv

FINDER = "finder"


def stored_finder(place: Path, seed: int = 1, *, synthetic: bool | None = None, **changes: Any) -> Path:
    """A model of random weights that finds biceps, triceps and rectus femoris."""
    study = muscle_study(**{"image": {"size": 32, "framing": "letterbox", "roi": "none"}, **changes})
    torch.manual_seed(seed)
    store_segmenter(place, study, build_segmenter(study, weights="none"), About(synthetic))
    return place


def auto_study(place: Path, *, auto: dict[str, Any] | None = None, **changes: Any) -> StudyConfig:
    """The tiny study with images, whose masks are found by the model at ``place``."""
    image = {**changes.pop("image", {}), "roi": "auto", "auto": {"segmenter": str(place), **(auto or {})}}
    return beside(image_study(**changes, image=image), place.parent / "study.toml")


def finds(monkeypatch: pytest.MonkeyPatch, what: dict[str, NDArray[np.bool_]], sure: float = 0.999) -> None:
    """Every model finds these masks, by name of the image, as every muscle that it knows; so sure it is of them."""

    def find(segmenter: Segmenter, frame: Frame, file: str = "") -> Found:
        _, view = segmentation_view(frame, segmenter.study.image, file)
        number = segmenter.muscles.index("rectus_femoris") + 1
        classes = what[file].astype(np.uint8) * np.uint8(number)
        probabilities = np.full((1 + len(segmenter.muscles), *classes.shape), 0.0, dtype=np.float32)
        probabilities[0], probabilities[number] = np.where(what[file], 1 - sure, sure), np.where(what[file], sure, 0)
        probabilities[number] += np.where(what[file], 0, 1 - sure).astype(np.float32)
        return Found(classes, probabilities, view)

    monkeypatch.setattr(Segmenter, "find", find)


def drawn_masks(folder: Path, frames: dict[str, Frame]) -> dict[str, NDArray[np.bool_]]:
    """What people have drawn on a site's images, by name of the image."""
    rows = {row["image"]: row["mask"] for row in read_csv(folder / "images.csv")}
    return {name: read_mask(folder / rows[name], frame) for name, frame in frames.items()}


def frames_of(folder: Path) -> dict[str, Frame]:
    """Every image of a site, by its name."""
    from sarco_models.images import read_calibrations, read_image

    calibrations = read_calibrations(folder / "calibration.csv")
    names = [row["image"] for row in read_csv(folder / "images.csv")]
    return {name: read_image(folder / name, calibrations.get(name)) for name in names}
