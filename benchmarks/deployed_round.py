"""What a deployed round costs beside training: ConvNeXt-Tiny, three sites, TLS, keys and the gate, on the loopback.

    python benchmarks/deployed_round.py [--rounds 4] [--encoding float32|bf16|int8] [--compression none|zstd]

Every process is the product's; only the training itself is taken out of the hospitals' workers: they add a fixed small
change to every weight at once. Printed for each round: seconds, processor seconds, bytes over the loopback, and where
the seconds go; at the end memory of each process and the size of Flower's database. Linux only.
"""

import argparse
import os
import statistics
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client.worker_line import Line, WorkerAway
from sarco_models.config import StudyConfig
from tests.deployment.federation import Federation, federation
from tests.deployment.hurt import hurt
from tests.deployment.run_under_way import RunUnderWay
from tests.deployment.started import processes_of
from tests.deployment.studies import NAMES
from tests.sites import image_study

TICK = os.sysconf("SC_CLK_TCK")
LOOPBACK = Path("/sys/class/net/lo/statistics/rx_bytes")
ROLES = {
    "client.worker": "worker",
    "client.supernode": "supernode",
    "flwr-clientapp": "clientapp",
    "flwr-serverapp": "serverapp",
    "server.superlink": "superlink",
    "flower-superexec": "superexec",
    "client.superexec": "superexec",
    "server.gate": "gate",
}


def study(rounds: int, encoding: str, compression: str) -> StudyConfig:
    travel = {"encoding": encoding, "compression": compression}
    return image_study(
        model={"modalities": ["image"], "backbone": "convnext_tiny"},
        federation={"rounds": rounds, "min_sites": 3, "min_participants": 2, "round_deadline_s": 600.0, **travel},
    )


@dataclass
class Usage:
    """Processor seconds and peak memory by role, of every process that was ever seen."""

    cpu: dict[int, tuple[str, float]] = field(default_factory=dict)
    memory: dict[int, tuple[str, float]] = field(default_factory=dict)

    def look(self, base: Path) -> None:
        for pid, line in processes_of(base):
            role = next((name for part, name in ROLES.items() if part in line), "other")
            with suppress(OSError, IndexError, ValueError):
                called = Path(f"/proc/{pid}/comm").read_text().strip()  # a ClientApp is a copy, and says its name there
                role = "clientapp" if called == "flwr-clientapp" else role
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                self.cpu[pid] = (role, (int(fields[11]) + int(fields[12])) / TICK)
                peak = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmHWM"))
                self.memory[pid] = (role, int(peak.split()[1]) / 1024)

    def mark(self, base: Path) -> tuple[float, dict[str, float], int]:
        """The time, processor seconds by role, and bytes over the loopback so far."""
        self.look(base)
        return time.time(), self.by_role(), int(LOOPBACK.read_text())

    def by_role(self) -> dict[str, float]:
        total: dict[str, float] = defaultdict(float)
        for role, seconds in self.cpu.values():
            total[role] += seconds
        return dict(total)


@dataclass
class Phases:
    """When each site was asked, began, ended and had answered, in one round; seconds of this machine's clock."""

    asked: float = 0.0
    began: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    answered: float = 0.0


def watch(made: Federation, run: RunUnderWay, rounds: int) -> list[dict[str, Any]]:
    """One row for each complete round."""
    usage = Usage()
    lines = {name: Line(made.hospitals[name].folder / "run" / "worker.sock") for name in NAMES}
    phases: dict[int, Phases] = defaultdict(Phases)
    marks = {0: usage.mark(made.base)}
    while run.rounds < rounds:
        if not run.command.running:
            raise SystemExit(f"the run has ended:\n{made.words()}")
        live, now = run.live, time.time()
        if live.get("phase") == "round":
            round_ = int(live["round"])
            if round_ - 1 not in marks:
                marks[round_ - 1] = usage.mark(made.base)
            elif round_ == 1 and 1 not in phases:
                marks[0] = usage.mark(made.base)
            _note(phases[round_], live, lines, now)
        usage.look(made.base)
        time.sleep(0.05)
    marks[rounds] = usage.mark(made.base)
    _memory(usage)
    return [_row(k, marks[k - 1], marks[k], phases[k]) for k in range(1, rounds + 1)]


def _note(phase: Phases, live: dict[str, Any], lines: dict[str, Line], now: float) -> None:
    phase.asked = phase.asked or float(live["started"])
    states = [site.get("state") for site in live["sites"].values()]
    if not phase.answered and states and all(state == "answered" for state in states):
        phase.answered = now
    for name, line in lines.items():
        _look(name, line, phase, now)


def _look(name: str, line: Line, phase: Phases, now: float) -> None:
    with suppress(WorkerAway):
        said = line.status(0.5)
        if said["phase"] == "working" and said.get("task") == "Train":
            phase.began.setdefault(name, now)
        elif name in phase.began:
            phase.ended.setdefault(name, now)


def _row(round_: int, before: tuple[Any, ...], after: tuple[Any, ...], phase: Phases) -> dict[str, Any]:
    cpu = {role: after[1][role] - before[1].get(role, 0.0) for role in after[1]}
    began, ended = max(phase.began.values(), default=0.0), max(phase.ended.values(), default=0.0)
    return {
        "round": round_,
        "seconds": after[0] - before[0],
        "cpu": sum(cpu.values()),
        "bytes": after[2] - before[2],
        "by_role": {role: seconds for role, seconds in sorted(cpu.items(), key=lambda x: -x[1]) if seconds > 0.05},
        "down": began - phase.asked if began else float("nan"),
        "work": ended - began if ended else float("nan"),
        "up": phase.answered - ended if phase.answered and ended else float("nan"),
        "rest": after[0] - phase.answered if phase.answered else float("nan"),
    }


def _memory(usage: Usage) -> None:
    peaks: dict[str, float] = defaultdict(float)
    for role, megabytes in usage.memory.values():
        peaks[role] = max(peaks[role], megabytes)
    print("peak memory, MB: " + ", ".join(f"{role} {peaks[role]:.0f}" for role in sorted(peaks)))


def show(rows: list[dict[str, Any]]) -> None:
    print("round  seconds  processor  loopback MB   down   work     up   rest   processor seconds by role")
    for row in rows:
        roles = ", ".join(f"{role} {seconds:.1f}" for role, seconds in row["by_role"].items())
        print(
            f"{row['round']:5d} {row['seconds']:8.1f} {row['cpu']:10.1f} {row['bytes'] / 1e6:12.0f} "
            f"{row['down']:6.1f} {row['work']:6.1f} {row['up']:6.1f} {row['rest']:6.1f}   {roles}"
        )
    later = rows[1:] or rows
    print(
        f"median after the first: {statistics.median(row['seconds'] for row in later):.1f} s, "
        f"{statistics.median(row['cpu'] for row in later):.1f} processor seconds"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--encoding", default="float32", choices=["float32", "bf16", "int8"])
    parser.add_argument("--compression", default="none", choices=["none", "zstd"])
    given = parser.parse_args()
    agreed = study(given.rounds, given.encoding, given.compression)
    started = time.monotonic()
    with federation(agreed, NAMES, join=()) as made:
        for name in NAMES:
            made.hospitals[name].join(hurt(made.base / f"hurt-{name}", instant=True))
        for name in NAMES:
            made.wait_joined(name)
        made.wait_online(*NAMES)
        print(
            f"{given.encoding}, {given.compression}: founded, enrolled and joined in {time.monotonic() - started:.0f} s"
        )
        run = made.start_run()
        show(watch(made, run, given.rounds))
        records = [run.record(k) for k in range(1, given.rounds + 1)]
        print(
            "payload MB down/up: "
            + ", ".join(f"{r['bytes_down'] / 1e6:.1f}/{r['bytes_up'] / 1e6:.1f}" for r in records)
        )
        print(f"database: {sum(p.stat().st_size for p in made.home.glob('superlink.sqlite*')) / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
