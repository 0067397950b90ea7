"""The files of a run's model and of a release: their names, and whether a release is whole. It needs no torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sarco_models.errors import RunError

if TYPE_CHECKING:
    from sarco_models.sections import AutoMasksConfig

MANIFEST, README = "manifest.json", "README.txt"
MODEL, FROZEN, STUDY, ABOUT = "model.safetensors", "frozen.safetensors", "study.json", "model.json"


def verified(folder: Path) -> dict[str, Any]:
    """The manifest of a release whose files are all there, unchanged, and no others.

    Raises:
        RunError: they are not.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise RunError(f"{folder}: is no release ({MANIFEST} is absent): name a folder that the command release wrote")
    about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    named = set(about["files"])
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {MANIFEST}
    for name in sorted(named ^ there):
        what = "is absent" if name in named else f"is not named in {MANIFEST}"
        raise RunError(f"{folder / name}: {what}: get the release again")
    for name, facts in about["files"].items():
        if sha256_of(folder / name) != facts["sha256"]:
            raise RunError(f"{folder / name}: was changed after the release: get the release again")
    return about


def needs(auto: AutoMasksConfig | None) -> dict[str, dict[str, str]]:
    """What a model needs that is no part of its release: ``{"segmenter": {"name", "sha256"}}``; empty: nothing.

    Args:
        auto: how its study finds masks; the hash is that of :func:`sarco_models.segmenter_files.segmenter_digest`.
    """
    return {} if auto is None else {"segmenter": {"name": auto.segmenter, "sha256": auto.sha256}}


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
