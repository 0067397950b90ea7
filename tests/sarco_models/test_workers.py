"""Work that survives a worker's death: only the job that kills or stalls its process is lost."""

import os
import time
from pathlib import Path

import pytest

from sarco_models import workers
from sarco_models.workers import each


def square(number: int) -> int:
    return number * number


def deadly(number: int) -> int:
    if number == 13:
        os._exit(7)  # as a decoder's segmentation fault would
    return number


def stuck(number: int) -> int:
    if number == 3:
        time.sleep(600)
    return number


def test_every_job_is_done_once_without_processes() -> None:
    assert dict(each(square, range(40), workers=0, limit_s=1)) == {k: k * k for k in range(40)}


@pytest.mark.slow
def test_every_job_is_done_once_with_two_processes() -> None:
    found = list(each(square, range(40), workers=2, limit_s=10))
    assert dict(found) == {k: k * k for k in range(40)}
    assert len(found) == 40


@pytest.mark.slow
def test_a_job_that_kills_its_process_costs_only_itself() -> None:
    found = list(each(deadly, range(30), workers=2, limit_s=10))
    assert len(found) == 30
    assert dict(found) == {k: None if k == 13 else k for k in range(30)}


@pytest.mark.slow
def test_a_job_that_never_ends_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "START_S", 4.0)
    assert dict(each(stuck, range(5), workers=1, limit_s=0.3)) == {0: 0, 1: 1, 2: 2, 3: None, 4: 4}


def test_an_error_of_a_job_is_an_error_here() -> None:
    with pytest.raises(TypeError):
        list(each(Path, [None], workers=0, limit_s=1))  # type: ignore[list-item]
