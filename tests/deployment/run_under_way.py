"""A run that was started in a deployed federation: its files, and waiting for what becomes of it."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.deployment.hospital import read_json
from tests.deployment.started import Started, arguments

if TYPE_CHECKING:
    from tests.deployment.federation import Federation

COORDINATOR = "sarco-coordinator"


@dataclass
class RunUnderWay:
    """A run that was started, as its files and its command tell of it."""

    federation: Federation
    name: str
    command: Started

    @property
    def folder(self) -> Path:
        return self.federation.home / "runs" / self.name

    @property
    def live(self) -> dict[str, Any]:
        """What the loop says that it does now."""
        found: dict[str, Any] = read_json(self.folder / "live.json") or {}
        return found

    @property
    def rounds(self) -> int:
        """The last complete round; -1 before the run has begun."""
        return max((int(path.stem) for path in (self.folder / "rounds").glob("[0-9]*.json")), default=-1)

    def record(self, round_: int) -> dict[str, Any]:
        """What is recorded of a complete round."""
        found: dict[str, Any] = json.loads((self.folder / "rounds" / f"{round_:04d}.json").read_text())
        return found

    def parameters(self) -> tuple[int, bytes]:
        """The last complete round, and the global model after it."""
        for _ in range(100):
            round_ = self.rounds
            with suppress(OSError, ValueError):  # the next round was complete meanwhile
                return round_, np.load(self.folder / "rounds" / f"{round_:04d}.npy").tobytes()
            time.sleep(0.01)
        raise AssertionError(f"no parameters of round {self.rounds} in {self.folder}")

    def wait_asked(self, name: str, seconds: float = 120) -> int:
        """Until the others have answered and this hospital has not; returns the round."""

        def asked() -> bool:
            live = self.live
            states = {site: told["state"] for site, told in live.get("sites", {}).items()}
            others = {state for site, state in states.items() if site != name}
            return live.get("phase") == "round" and states.get(name) == "asked" and others == {"answered"}

        self.federation.wait(asked, seconds, f"all but {name} have answered: {self.live}")
        return int(self.live["round"])

    def wait_round(self, round_: int, seconds: float = 180) -> None:
        """Until this round is complete."""
        self.federation.wait(lambda: self.rounds >= round_, seconds, f"round {round_} of {self.name}")

    @property
    def given_up(self) -> str:
        """Why the coordinator does not want it to go on; empty while it does."""
        mark = read_json(self.folder / "submitted.json") or {"wanted": True}
        return "" if mark["wanted"] else str(mark["why"])

    def wait_more(self, rounds: int = 1, seconds: float = 180, *, by_itself: bool = True) -> None:
        """Until so many more rounds are complete; where its command has ended, ``resume`` follows it again.

        Args:
            rounds: how many.
            seconds: how long it may take.
            by_itself: it must not have given up; False: where it has, ``resume`` goes on with it.
        """
        wanted = self.rounds + rounds
        self.federation.wait(
            lambda: self.rounds >= wanted or not self.command.running, seconds, f"round {wanted} of {self.name}"
        )
        if self.rounds < wanted:
            assert not (by_itself and self.given_up), f"{self.name} does not go on by itself: {self.given_up}"
            words = arguments(COORDINATOR, "resume", self.name, "--home", self.federation.home)
            self.command = Started(self.federation.base, self.command.log, words)
            self.wait_round(wanted, seconds)

    def wait_done(self, seconds: float = 300) -> RunUnderWay:
        """Until its command has ended well and the run is complete."""
        self.federation.wait(lambda: not self.command.running, seconds, f"the end of {self.name}")
        assert self.command.process.returncode == 0, f"{self.command.words}\n{self.federation.words()}"
        assert (self.folder / "model.json").is_file(), self.command.words
        return self
