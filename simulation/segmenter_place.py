"""Where the segmentation model of an experiment lies that trains one itself, and how its studies come to know it.

A study carries the hash of its model. Before the model is trained there is none to carry: :data:`NOT_YET` stands for
it, and nothing is read by such a study.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sarco_models.config import StudyConfig, merged
from sarco_models.release_files import ABOUT
from sarco_models.segmenter_files import segmenter_digest
from simulation.mask_experiment import SegmenterConfig

FOLDER = "segmenter"
NOT_YET = "0" * 64
"""Hash in a study whose model is still to be trained; it is replaced before anything is read by it."""

Changes = Mapping[str, Any]


def with_segmenter(overrides: Changes, cfg: SegmenterConfig | None, shared: Path) -> dict[str, Any]:
    """The overrides of a study, which is given the experiment's own model where it finds masks by none of its own."""
    image = overrides.get("image", {})
    if cfg is None or image.get("roi") != "auto" or "segmenter" in image.get("auto", {}):
        return dict(overrides)
    place = (shared / FOLDER).resolve()
    auto = {"segmenter": str(place), "sha256": segmenter_digest(place) if (place / ABOUT).is_file() else NOT_YET}
    return merged(overrides, {"image": {"auto": auto}})


def knowing(study: StudyConfig, shared: Path) -> StudyConfig:
    """The study with the hash of the model that was trained since it was read; any other study as it is."""
    auto = study.image.auto
    if auto is None or auto.sha256 != NOT_YET:
        return study
    place = (shared / FOLDER).resolve()
    image = study.image.model_copy(update={"auto": auto.at(place, segmenter_digest(place))})
    return study.model_copy(update={"image": image})
