"""Runs handed to Flower: begun, gone on with after a death, stopped.

``submitted.json`` of a run directory says whether the coordinator wants the run to go on, and what it is called at
Flower. A run that ends by itself is done or has failed, and says so (server/live.py); one whose process is gone without
a word has died, by kill -9, a power cut or a full memory. What died and is wanted is submitted again by ``up``, at most
:data:`DEATHS` times without a complete round between; the run goes on after its last complete round (server/rounds.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sarco_models.apart import apart
from sarco_models.errors import ConfigError, RunError
from server.bundle import bundle_digest
from server.control import Control, FlowerRun
from server.home import Home
from server.live import held_by, read_live
from server.whole_files import write_json

if TYPE_CHECKING:
    from sarco_models.config import StudyConfig

Told = Callable[[str], None]

FILE = "submitted.json"
LOG = "serverapp.log"
DEATHS = 5
STOPPED = "stopped by the coordinator"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_RAISED = "ServerApp failed with exception"
_STOP_S = 15.0


@dataclass(frozen=True)
class Submission:
    """submitted.json.

    Attributes:
        wanted: whether the run is to go on.
        run_id: Flower's number of the last submission.
        time: of it, unix seconds.
        bundle: SHA-256 of what was sent to the hospitals (server/bundle.py).
        rounds: complete rounds at that time.
        deaths: times that it died since a round was complete.
        why: why it is not wanted any more.
    """

    wanted: bool
    run_id: str
    time: float
    bundle: str
    rounds: int
    deaths: int = 0
    why: str = ""


def prepare(home: Home, study: StudyConfig, name: str = "") -> Path:
    """Make the directory of a run; one that is there is taken again where it is of this study.

    Args:
        home: of the coordinator.
        study: as the hospitals' kits have it.
        name: of the run; by default that of the study with the first number that is free.

    Raises:
        ConfigError: the hospitals were given another study, or the name is no name of a folder.
        RunError: the directory holds a run of another study.
    """
    given = home.study
    if given.digest != study.digest:
        raise ConfigError(
            f"this study is {study.digest[:12]}; the hospitals' kits carry {given.digest[:12]} ({given.name}), and a "
            f"hospital refuses what it has not approved: sarco-coordinator kits {home.folder} --study STUDY.toml "
            "writes kits with this study; send them, and run it when the hospitals have approved it"
        )
    if name and not _NAME.fullmatch(name):
        raise ConfigError(
            f"--name {name}: the name of a run is the name of a folder in {home.runs_folder}: letters, digits, "
            "- _ and dots, a letter or digit first"
        )
    done = [f for f in run_folders(home) if (f / "model.json").is_file() and _digest_of(f) == study.digest]
    if done and done[0].name != name:
        raise ConfigError(
            f"study {study.digest[:12]} was run to its end already: {done[0]}; hospitals evaluate one model of a "
            "study, and refuse a second: change the study (another training.seed, say), write kits and let the "
            "hospitals approve"
        )
    folder = home.runs_folder / (name or _free_name(home, study.name))
    runs = home.config.runs
    central = str((home.folder / runs.central).resolve()) if runs.central else ""
    model = (home.folder / runs.segmenter) if runs.segmenter else study.image.auto and study.image.auto.place
    places = {"central": central, "cache": str((home.folder / runs.cache).resolve())}
    places["segmenter"] = str(model.resolve()) if model else ""
    expected = runs.expected or tuple(site.name for site in home.sites() if not site.revoked)
    own = runs.model_copy(update={**places, "expected": expected})
    facts = {"folder": str(folder), "study": study.model_dump_json(), "coordinator": own.model_dump_json()}
    apart("server.new_run:create", facts)  # whoever follows a run for days does not hold torch
    return folder


def run_of(home: Home, study: StudyConfig) -> str:
    """Name of the run of this study that was submitted last; empty where there is none."""
    return next((folder.name for folder in run_folders(home) if _digest_of(folder) == study.digest), "")


def _digest_of(folder: Path) -> str:
    try:
        return str(json.loads((folder / "run.json").read_text(encoding="utf-8"))["study"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def read(folder: Path) -> Submission | None:
    """What a run directory says of its submission; None where it was never submitted."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        known = {f.name for f in fields(Submission)}
        return Submission(**{key: value for key, value in found.items() if key in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def complete_rounds(folder: Path) -> int:
    """Rounds with a record; that of the start does not count."""
    return max(len(list((folder / "rounds").glob("[0-9][0-9][0-9][0-9].json"))) - 1, 0)


def run_folders(home: Home) -> tuple[Path, ...]:
    """Run directories of a home, the one that was submitted last first."""
    found = [folder for folder in home.runs_folder.glob("*") if (folder / "run.json").is_file()]
    return tuple(sorted(found, key=lambda folder: (-(told.time if (told := read(folder)) else 0.0), folder.name)))


def find(home: Home, name: str = "") -> Path:
    """The run directory of this name; by default the one that was submitted last.

    Raises:
        RunError: there is none.
    """
    known = run_folders(home)
    for folder in known:
        if not name or folder.name == name:
            return folder
    names = ", ".join(folder.name for folder in known) or "none"
    raise RunError(f"{name or home.folder}: there is no such run; runs of {home.folder}: {names}")


def submit(home: Home, control: Control, folder: Path) -> Submission:
    """Have a run begin, or go on.

    Raises:
        RunError: it is complete, a process works on it, or another run of this home does; or the SuperLink is away.
    """
    with _one_change(folder):
        _check_free(home, control, folder)
        _clear(control, folder)
        return _submit(control, folder, deaths=0)


def stop(control: Control, folder: Path) -> bool:
    """End a run; it can be gone on with. Returns whether one was at work.

    Raises:
        RunError: the SuperLink does not answer, or the run's process does not end.
    """
    with _one_change(folder):
        told = read(folder)
        if told is not None:
            write_json(folder / FILE, asdict(replace(told, wanted=False, why=STOPPED)))
        try:
            return _clear(control, folder)
        finally:
            if told is not None and told.wanted:
                _keep_log(control, folder, told.run_id)


def ended(folder: Path, told: Submission) -> str | None:
    """How the run of the last submission ended by its own word: done, or why it failed; None: it did not say."""
    live = read_live(folder)
    if live is None or live.get("time", 0) < told.time:
        return None
    if live["phase"] == "done":
        return "done"
    return str(live.get("failure") or "it failed") if live["phase"] == "failed" else None


def look_after(home: Home, control: Control, told: Told, *, since: float = 0.0) -> None:
    """Submit again what has died and is wanted; note what has ended.

    Args:
        home: of the coordinator.
        control: of its SuperLink.
        told: hears what happens, in sentences.
        since: unix time at which ``up`` began: what was submitted before has ended with the ``up`` before.

    Raises:
        RunError: the SuperLink does not answer.
    """
    wanted = [(folder, mark) for folder in run_folders(home) if (mark := read(folder)) and mark.wanted]
    if not wanted:
        return
    runs = control.runs()
    for folder, seen in wanted:
        with _one_change(folder):
            if read(folder) == seen:  # else it was stopped or submitted meanwhile
                _look_after(control, folder, seen, runs, told, since)


def _look_after(  # noqa: PLR0913, PLR0917 - one run of look_after
    control: Control,
    folder: Path,
    mark: Submission,
    runs: Sequence[FlowerRun],
    told: Told,
    since: float,
) -> None:
    if held_by(folder) is not None:  # looked at first: a process says how it ended before it lets go
        return
    why = ended(folder, mark)
    at_flower = next((run for run in runs if run.run_id == mark.run_id), None)
    if why is None and not _dead(folder, mark, at_flower):
        return
    if why is None and at_flower is not None and at_flower.details.startswith(_RAISED):
        why = at_flower.details.removeprefix(_RAISED).lstrip(": ")
    died = mark.time >= since
    deaths = died + (mark.deaths if complete_rounds(folder) == mark.rounds else 0)
    if why is None and deaths > DEATHS:
        why = f"it died {DEATHS} times without a complete round between: see the log superexec, then resume it"
    _keep_log(control, folder, mark.run_id)
    if why is not None:
        write_json(folder / FILE, asdict(replace(mark, wanted=False, why=why)))
        told(f"run {folder.name}: {why}")
        return
    _clear(control, folder)
    _submit(control, folder, deaths=deaths)
    how = f"died after round {complete_rounds(folder)}: it goes on ({deaths} of {DEATHS})"
    told(f"run {folder.name} {how if died else f'goes on after round {complete_rounds(folder)}'}")


def run_log(control: Control, folder: Path) -> str:
    """What the run's processes have said: those that have ended, then the one at work; all, without colours.

    Raises:
        RunError: one is at work, and the SuperLink does not answer.
    """
    path, mark = folder / LOG, read(folder)
    kept = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return kept + (_COLOUR.sub("", control.log(mark.run_id)) if mark is not None and mark.wanted else "")


def _keep_log(control: Control, folder: Path, run_id: str) -> None:
    """Add what a process said to the run's log: Flower's database may be lost, and grows."""
    try:
        said = _COLOUR.sub("", control.log(run_id))
    except RunError as error:  # a database that was lost does not know the run
        said = f"{error}\n"
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(f"---- run {run_id} at Flower ----\n{said}")


def _dead(folder: Path, mark: Submission, at_flower: FlowerRun | None) -> bool:
    """Nobody holds the directory: the process is gone, or has not come yet."""
    live: dict[str, Any] = read_live(folder) or {}
    had_come = live.get("time", 0) >= mark.time
    return had_come or at_flower is None or not at_flower.alive


def _submit(control: Control, folder: Path, *, deaths: int) -> Submission:
    now = time.time()
    run_id = control.submit(folder)
    told = Submission(True, run_id, now, bundle_digest(), complete_rounds(folder), deaths)
    write_json(folder / FILE, asdict(told))
    return told


def _check_free(home: Home, control: Control, folder: Path) -> None:
    if (holder := held_by(folder)) is not None:
        raise RunError(
            f"{folder.name}: process {holder or 'unknown'} works on this run: follow it with sarco-coordinator status, "
            "or stop it first"
        )
    told = read(folder)
    if told is not None and ended(folder, told) == "done":
        raise RunError(f"{folder.name}: the run is complete: look at it with sarco-coordinator show {folder}")
    for other in run_folders(home):
        if other != folder and (held_by(other) is not None or control.alive(other)):
            raise RunError(
                f"run {other.name} is at work, and the hospitals do one thing at a time: wait for it, or "
                f"sarco-coordinator stop {other.name} --home {home.folder}"
            )


def _clear(control: Control, folder: Path) -> bool:
    """End what Flower still takes for a living run of this directory, and wait until its process is gone.

    Raises:
        RunError: it stays.
    """
    run = control.alive(folder)
    if run is not None:
        control.stop(run.run_id)
    until = time.monotonic() + _STOP_S
    while (holder := held_by(folder)) is not None:
        if time.monotonic() > until:
            who = f"process {holder}" if holder else "a process"
            raise RunError(
                f"run {folder.name}: {who} works on it still, {_STOP_S:g} s after it was told to end: kill it"
            )
        time.sleep(0.1)
    return run is not None


@contextlib.contextmanager
def _one_change(folder: Path) -> Iterator[None]:
    """One at a time decides about the runs beside this one: a person's stop must not meet ``up`` half way."""
    path = folder.parent / "submissions.lock"
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}: nothing was changed") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _free_name(home: Home, stem: str) -> str:
    number = 1
    while (home.runs_folder / f"{stem}-{number}").exists():
        number += 1
    return f"{stem}-{number}"
