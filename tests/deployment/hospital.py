"""One hospital of a deployed federation: its folder, what runs in it, and what that says."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.deployment.faulty_line import FaultyLine
from tests.deployment.started import Started, arguments, processes_of

SITE = "sarco-site"
_TAIL = 3000


def read_json(path: Path) -> Any:
    """What a file says; None while it is absent or half there."""
    with suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    return None


def pids(state: Path) -> dict[str, int]:
    """Role -> process, of those that a supervisor says are running."""
    said = read_json(state) or {}
    found = said.get("programs", said)
    return {
        name: int(entry["pid"])
        for name, entry in found.items()
        if isinstance(entry, Mapping) and entry.get("pid") and entry.get("state") == "running"
    }


@dataclass
class Hospital:
    """One hospital's folder and what runs in it."""

    name: str
    base: Path
    lined: FaultyLine | None = None
    started: Started | None = None

    @property
    def line(self) -> FaultyLine:
        """Its line to the gate."""
        assert self.lined is not None, f"{self.name} has no line of its own"
        return self.lined

    @property
    def joined(self) -> Started:
        """Its ``sarco-site join``."""
        assert self.started is not None, f"{self.name} has not joined"
        return self.started

    @property
    def folder(self) -> Path:
        return self.base / "sites" / self.name

    @property
    def data(self) -> Path:
        return self.base / "data" / self.name

    @property
    def site_file(self) -> Path:
        return self.folder / "site.toml"

    @property
    def state(self) -> dict[str, Any]:
        """What its supervisor says of its processes."""
        found: dict[str, Any] = read_json(self.folder / "run" / "state.json") or {}
        return found

    def pid(self, role: str) -> int:
        """Its worker, supernode or superexec."""
        return pids(self.folder / "run" / "state.json")[role]

    def join(
        self, env: Mapping[str, str] | None = None, *, around: Callable[[list[str]], list[str]] = lambda words: words
    ) -> Started:
        """Start ``sarco-site join``; ``around`` may put another command before it."""
        log = self.base / "said" / f"join-{self.name}.log"
        self.started = Started(self.base, log, around(arguments(SITE, "join", self.folder)), env)
        return self.started

    def processes(self) -> list[int]:
        """Everything that runs with this hospital's folder."""
        return [pid for pid, _ in processes_of(self.folder)]

    def words(self) -> str:
        """The ends of all its logs."""
        logs = [*sorted(self.folder.glob("logs/*.log")), *([self.started.log] if self.started else [])]
        return "\n".join(f"--- {self.name}: {log.name}\n{tail(log)}" for log in logs)


def tail(log: Path, size: int = _TAIL) -> str:
    """The end of a log."""
    with suppress(OSError):
        return log.read_text(errors="replace")[-size:]
    return "(absent)"
