"""Whether the people of a run are computer-made, as far as its coordinator can see."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from server.runs import Run


def is_synthetic(run: Run) -> bool | None:
    """Whether the run's people are computer-made, as far as folders within the coordinator's reach say so.

    Those are, in a simulation, the hospitals beside the run; else the central cohort. Synthetic people among them make
    it True; None where there is no folder to ask: real hospitals keep theirs.
    """
    folders = [
        site.parent / tomllib.loads(site.read_text(encoding="utf-8"))["data"]
        for site in sorted((run.folder / "sites").glob("*/site.toml"))
    ]
    if not folders and run.coordinator.central:
        folders = [run.folder / run.coordinator.central]
    said = [_says_synthetic(folder / "manifest.json") for folder in folders if folder.is_dir()]
    return any(said) if said else None


def _says_synthetic(manifest: Path) -> bool:
    return manifest.is_file() and bool(json.loads(manifest.read_text(encoding="utf-8")).get("synthetic"))
