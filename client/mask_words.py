"""What a study that finds masks by a trained model does with a hospital's images, in plain words."""

from __future__ import annotations

from collections.abc import Iterator

from sarco_models.config import StudyConfig


def finding_masks(study: StudyConfig) -> Iterator[str]:
    """Sentences on ``image.roi = "auto"``; none for a study that has another."""
    auto = study.image.auto
    if auto is None:
        return
    where = "Where nobody has drawn the muscle, it" if auto.masks == "missing" else "On every image the muscle"
    yield (
        f"{where} is found here, by segmentation model {auto.segmenter} (SHA-256 {auto.sha256[:12]}), whose folder the "
        "coordinator gives you: write segmenter in site.toml. It is not trained, and what it finds stays here."
    )
    shown = "is shown whole" if auto.otherwise == "tissue" else "is left out"
    least = "its own threshold" if auto.least_quality is None else f"{auto.least_quality:g}"
    yield f"An image on which it finds nothing good (a score below {least}) {shown}."
