"""A segmentation model as files: its name in a study is a hash, and where it lies is every machine's own affair.

A study with ``image.roi = "auto"`` carries name and hash, which :func:`sarco_models.config.load_study` fills in. Here
the hash is computed, and another model refused; it needs no torch.
"""

from __future__ import annotations

import functools
import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sarco_models.errors import ConfigError
from sarco_models.release_files import ABOUT, FROZEN, MANIFEST, MODEL, STUDY

if TYPE_CHECKING:
    from sarco_models.sections import AutoMasksConfig

_DECIDES = ("study", "threshold", "shapes", "synthetic")


def agreed_place(auto: AutoMasksConfig) -> Path:
    """Where the segmentation model of a study lies here.

    Raises:
        ConfigError: nobody has said it, nothing is there, or it is another model than the study's.
    """
    wanted = f"{auto.segmenter}, SHA-256 {auto.sha256[:12] or 'unknown'}"
    if auto.place is None:
        raise ConfigError(
            f"image.auto: this study finds muscles by the segmentation model {wanted}, and nobody has said where it "
            f'lies here: get its folder from the coordinator, and write segmenter = "FOLDER" in site.toml (check-data '
            "reads that with --site; at the coordinator: in coordinator.toml), or put it beside the study file as "
            f"{auto.segmenter}"
        )
    found = segmenter_digest(auto.place)
    if found != auto.sha256:
        raise ConfigError(
            f"{auto.place}: is segmentation model {found[:12]}, and the study's is {wanted}: all hospitals use the "
            "same one; ask the coordinator for that folder, unchanged"
        )
    return auto.place


def segmenter_digest(place: Path) -> str:
    """SHA-256 over everything that a segmentation model's masks follow from: weights, study, what is known of it.

    Args:
        place: folder of a run or a release, or a .safetensors file with its study beside it.

    Raises:
        ConfigError: it is none, or a file cannot be read.
    """
    folder, weights = (place, place / MODEL) if place.is_dir() else (place.parent, place)
    if not weights.is_file():
        raise ConfigError(
            f"{weights}: no such segmentation model: name the folder of a run that is complete, of a release, or a "
            ".safetensors file"
        )
    known = _known(folder / ABOUT)
    if "study" not in known:
        files = [folder / name for name in (STUDY, "study.toml") if (folder / name).is_file()]
        known["study"] = _sha256(files[0]) if files else ""
    frozen = _sha256(folder / FROZEN) if (folder / FROZEN).is_file() else ""
    words = json.dumps([_sha256(weights), frozen, {k: known.get(k) for k in _DECIDES}], sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()


def says_synthetic(place: Path) -> bool:
    """Whether a segmentation model, or a hospital's folder, says of itself that its people were made by a computer."""
    folder = place if place.is_dir() else place.parent
    found = False
    for name in (MANIFEST, ABOUT):
        with suppress(OSError, ValueError, AttributeError):  # who says nothing of himself is taken for real
            found = found or bool(json.loads((folder / name).read_text(encoding="utf-8")).get("synthetic"))
    return found


def _known(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise ConfigError(f"{path}: cannot be read: get the segmentation model again") from None


def _sha256(path: Path) -> str:
    """Of a file's content; a file that has not been touched is read once in a process."""
    try:
        stat = path.stat()
        return _content(path.resolve(), stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}: get the segmentation model again") from None


@functools.lru_cache(maxsize=64)
def _content(path: Path, _size: int, _mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
