"""What lies in a coordinator's home and in its runs, read so that a damaged file costs its own numbers and no others.

Nothing here writes. A file is read again only when it has changed, and what could not be read is named, without its
folder: no path of this machine ever reaches the page.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sarco_models.config import StudyConfig
from sarco_models.config_files import read_toml
from sarco_models.errors import ConfigError

TAIL_BYTES = 256 * 1024
"""Of a file that grows without end only its last lines are read."""

_PATH = re.compile(r"(?<![\w:/.])(?:/|[A-Za-z]:\\)(?!v1/)(?:[^\s/\\'\",;()<>]+[/\\])+([^\s/\\'\",;()<>:]*)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]")
_LONGEST = 600


def said(text: object) -> str:
    """A text of a record as it may be shown: of a path its last name only, no control characters, of bounded length."""
    shown = _PATH.sub(lambda found: "…/" + found[1], _CONTROL.sub(" ", str(text if text is not None else "")))
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"


def moment(value: object) -> float | None:
    """Seconds since 1970 of a number or an ISO time; None where it is neither."""
    number_ = number(value)
    if number_ is not None:
        return number_
    try:
        found = datetime.fromisoformat(str(value))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def number(value: object) -> float | None:
    """A finite number; None for everything else, also for true and false."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def table(value: object) -> dict[str, Any]:
    """A JSON object with texts for keys; empty for everything else."""
    return {str(key): inner for key, inner in value.items()} if isinstance(value, Mapping) else {}


@dataclass(frozen=True)
class Attempt:
    """An attempt at a round that fell short: hospitals that had answered, and what became of the others."""

    sites: tuple[str, ...]
    failures: dict[str, str]

    @classmethod
    def of(cls, stored: object) -> Attempt:
        """From JSON; what makes no sense is left out."""
        tree = table(stored)
        sites = tree.get("sites")
        answered = tuple(str(name) for name in sites) if isinstance(sites, list | Mapping) else ()
        return cls(answered, {name: said(why) for name, why in table(tree.get("failures")).items()})


@dataclass(frozen=True)
class Record:
    """What rounds/NNNN.json says, as far as it makes sense.

    Attributes:
        round: its number; 0 is the start.
        sites: hospitals whose answer counted; their numbers by name.
        central: the coordinator's own test after the round.
        failures: what became of the others, by name, as it stands in the record.
        down, up: bytes to and from all hospitals.
        seconds: the round took.
        written: seconds since 1970.
        attempts: that fell short before this one.
    """

    round: int
    sites: dict[str, dict[str, float]]
    central: dict[str, float]
    failures: dict[str, str]
    down: float | None
    up: float | None
    seconds: float | None
    written: float
    attempts: tuple[Attempt, ...] = ()

    @classmethod
    def of(cls, number_: int, stored: object, written: float) -> Record:
        """From JSON; what is missing or of another kind is left out."""
        tree = table(stored)
        attempts = tree.get("attempts")
        return cls(
            round=number_,
            sites={name: _numbers(found) for name, found in table(tree.get("sites")).items()},
            central=_numbers(tree.get("central")),
            failures={name: said(why) for name, why in table(tree.get("failures")).items()},
            down=number(tree.get("bytes_down")),
            up=number(tree.get("bytes_up")),
            seconds=number(tree.get("seconds")),
            written=written,
            attempts=tuple(Attempt.of(each) for each in attempts) if isinstance(attempts, list) else (),
        )


def _numbers(stored: object) -> dict[str, float]:
    found = {key: number(value) for key, value in table(stored).items()}
    return {key: value for key, value in found.items() if value is not None}


@dataclass
class Files:
    """Files of one folder, each read once as long as it does not change.

    Attributes:
        folder: where they lie.
        faults: name of each file that could not be read -> why.
    """

    folder: Path
    faults: dict[str, str] = field(default_factory=dict)
    _read: dict[str, tuple[tuple[int, int, int], Any]] = field(default_factory=dict)

    def json(self, name: str) -> Any:
        """Content of a JSON file; None where it is absent or damaged (then :attr:`faults` says so)."""
        return self._fresh(name, lambda path: json.loads(path.read_text(encoding="utf-8")))

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The last objects of a file with one in each line, oldest first; what is no object is left out."""
        return self._fresh(name, _last_lines) or []

    def toml(self, name: str) -> dict[str, Any]:
        """A TOML file; empty where it is absent or damaged."""
        return self._fresh(name, read_toml) or {}

    def written(self, name: str) -> float | None:
        """When a file was written, seconds since 1970; None where it is absent."""
        try:
            return (self.folder / name).stat().st_mtime
        except OSError:
            return None

    def _fresh(self, name: str, read: Any) -> Any:
        path = self.folder / name
        try:
            about = path.stat()
            stamp = (about.st_mtime_ns, about.st_size, about.st_ino)
            if name not in self._read or self._read[name][0] != stamp:
                self._read[name] = (stamp, read(path))
                self.faults.pop(name, None)
            return self._read[name][1]
        except FileNotFoundError:
            self.faults.pop(name, None)
        except (OSError, ValueError, RecursionError, ConfigError) as error:
            self.faults[name] = "it cannot be opened" if isinstance(error, OSError) else "it is damaged"
        self._read.pop(name, None)
        return None


def _last_lines(path: Path) -> list[dict[str, Any]]:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL_BYTES))
        whole = file.read().split(b"\n")[1 if size > TAIL_BYTES else 0 :]
    found = []
    for line in whole:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found


class RunFiles(Files):
    """A run directory (server/runs.py), read without torch."""

    def __init__(self, folder: Path) -> None:
        """Nothing is read yet."""
        super().__init__(folder)
        self._records: dict[int, Record] = {}
        self._begun: object = None
        self._study: tuple[object, StudyConfig | None] = (None, None)

    @property
    def name(self) -> str:
        """Of the directory."""
        return self.folder.name

    @property
    def study(self) -> StudyConfig | None:
        """The study of the run; None where its file is absent, damaged or of another version."""
        tree = self.json("study.json")
        if tree is not self._study[0]:
            try:
                self._study = (tree, StudyConfig.model_validate_json(json.dumps(tree)))
            except ValidationError:
                self.faults["study.json"] = "it is not a study that this version knows"
                self._study = (tree, None)
        return self._study[1]

    @property
    def live(self) -> dict[str, Any]:
        """What the run says it does now (server/live.py); empty where it does not."""
        return table(self.json("live.json"))

    def records(self) -> list[Record]:
        """Complete rounds in order, from 0 to the first that is absent."""
        about = self.json("run.json")
        if about is not self._begun:  # another run in the same folder
            self._records, self._begun = {}, about
        round_ = 0
        while round_ in self._records or self._take(round_):
            round_ += 1
        return [self._records[k] for k in range(round_)]

    def _take(self, round_: int) -> bool:
        name = f"rounds/{round_:04d}.json"
        written = self.written(name)
        if written is None:
            return False
        stored = self.json(name)
        found = Record.of(round_, stored, written)
        if stored is not None:
            self._records[round_] = found
            self._read.pop(name, None)  # complete records never change: kept once, in the form above
        return stored is not None

    @property
    def synthetic(self) -> bool | None:
        """Whether the people are computer-made, as far as folders within reach say so; None where none does.

        As in ``server.release``: a simulation has its hospitals beside the run, a deployment at most the central
        cohort.
        """
        folders = [
            site.parent / str(self.toml(f"sites/{site.parent.name}/site.toml").get("data", "."))
            for site in sorted(self.folder.glob("sites/*/site.toml"))
        ]
        central = self.toml("coordinator.toml").get("central")
        if not folders and central:
            folders = [self.folder / str(central)]
        told = [_told_synthetic(folder) for folder in folders]
        known = [answer for answer in told if answer is not None]
        return any(known) if known else None


def _told_synthetic(folder: Path) -> bool | None:
    if not folder.is_dir():
        return None
    try:
        return bool(table(json.loads((folder / "manifest.json").read_text(encoding="utf-8"))).get("synthetic"))
    except (OSError, ValueError, RecursionError):
        return False


class HomeFiles(Files):
    """A coordinator's home (server/home.py), or a single run directory looked at alone."""

    def __init__(self, folder: Path) -> None:
        """Nothing is read yet."""
        super().__init__(folder)
        self._runs: dict[str, RunFiles] = {}

    @property
    def is_home(self) -> bool:
        """Whether there are hospitals, a gate and processes to show beside the runs."""
        return (self.folder / "coordinator.toml").is_file() and not (self.folder / "run.json").is_file()

    @property
    def runs(self) -> list[RunFiles]:
        """All runs, the one that was written to last in front."""
        folder = self.folder / "runs"
        try:
            places = [p for p in folder.iterdir() if p.is_dir()] if folder.is_dir() else []
        except OSError:
            places = []
        if (self.folder / "run.json").is_file():
            places = [self.folder]
        known = {p.name: self._runs.get(p.name) or RunFiles(p) for p in places if (p / "run.json").is_file()}
        self._runs = known
        return sorted(known.values(), key=lambda run: (-_last_written(run), run.name))

    def run(self, name: str) -> RunFiles | None:
        """The run of a name that is in the list; no other name is ever made into a path."""
        return next((run for run in self.runs if run.name == name), None)

    def enrolled(self) -> list[dict[str, Any]]:
        """Rows of sites.json."""
        rows = table(self.json("sites.json")).get("sites")
        return [table(row) for row in rows if table(row).get("name")] if isinstance(rows, list) else []


def _last_written(run: RunFiles) -> float:
    return max(run.written(name) or 0.0 for name in ("live.json", "run.json", "model.json", "leakage.json"))
