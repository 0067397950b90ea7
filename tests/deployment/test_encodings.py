"""Encoded updates and models as differences, over real processes: to the last bit the model of one process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sarco_models.config import StudyConfig
from tests.deployment.federation import Federation, federation
from tests.deployment.studies import NAMES, in_one_process, wide

pytestmark = pytest.mark.slow

ROUNDS = 6
WHOLE = 1_680_000
"""Bytes of the model, about."""


def study() -> StudyConfig:
    plain = wide(ROUNDS)
    federation_ = plain.federation.model_copy(update={"encoding": "int8", "compression": "zstd"})
    return StudyConfig.model_validate(plain.model_dump() | {"federation": federation_.model_dump()})


@pytest.fixture(scope="module")
def made() -> Iterator[Federation]:
    with federation(study(), NAMES) as found:
        yield found


def test_a_worker_that_is_killed_between_rounds_costs_nothing_but_a_model_that_goes_down_whole(
    made: Federation, tmp_path: Path
) -> None:
    """What rounding left is on its disk, and its next update is the one that it would have been."""
    run = made.start_run()
    run.wait_round(2)
    made.kill("beta.worker")
    run.wait_done()
    assert run.parameters() == (ROUNDS, in_one_process(made, tmp_path)[ROUNDS])
    records = [run.record(k) for k in range(1, ROUNDS + 1)]
    assert records[0]["bytes_down"] > 3 * WHOLE
    assert max(record["bytes_up"] for record in records) < 0.3 * 3 * WHOLE * 1.1
    assert records[-1]["bytes_down"] < 0.9 * records[0]["bytes_down"]
