"""Many rounds: memory of every process and Flower's database do not grow with them.

Forty rounds at one hospital here; SARCO_LONG_RUN=200 asks for the two hundred of docs/benchmarks.md.
"""

import os
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment.federation import Federation, federation
from tests.deployment.studies import a_study

pytestmark = pytest.mark.slow

ROUNDS = int(os.environ.get("SARCO_LONG_RUN", "40"))
WARM = ROUNDS // 4
GROWTH = 1.05
ROLES = (
    "superlink", "superexec", "gate", "serverapp", "alpha.worker", "alpha.supernode", "alpha.superexec",
)  # fmt: skip


@pytest.fixture(scope="module")
def one() -> Iterator[Federation]:
    study = a_study({"rounds": ROUNDS, "min_sites": 1, "round_deadline_s": 60.0})
    with federation(study, ("alpha",)) as made:
        yield made


def megabytes(pid: int) -> float:
    """Resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def database(made: Federation) -> float:
    return sum(path.stat().st_size for path in made.home.glob("superlink.sqlite*")) / 1e6


def test_memory_and_database_are_flat_after_warming_up(one: Federation) -> None:
    run = one.start_run()
    seen: dict[int, dict[str, float]] = {}
    for round_ in range(WARM, ROUNDS, max(ROUNDS // 40, 1)):
        run.wait_round(round_)
        seen[run.rounds] = {role: megabytes(one.pid(role)) for role in ROLES} | {"database": database(one)}
    run.wait_done()
    rounds = sorted(seen)
    third = max(len(rounds) // 3, 1)
    table = {}
    for what in (*ROLES, "database"):
        early = statistics.median(seen[k][what] for k in rounds[:third])
        late = statistics.median(seen[k][what] for k in rounds[-third:])
        table[what] = (round(early, 1), round(late, 1))
    sys.stdout.write(f"{ROUNDS} rounds, MB early and late after warming up: {table}\n")
    assert not {what: pair for what, pair in table.items() if pair[1] > GROWTH * pair[0]}, table
