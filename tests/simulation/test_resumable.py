"""A folder belongs to its parameters; tasks come back in order, whoever did them."""

import json
from pathlib import Path

import pytest

from sarco_models.errors import ConfigError
from simulation.resumable import BATCH, claim, complete, csv_bytes, in_order, put


def square(n: int) -> int:
    return n * n


def test_a_folder_is_claimed_once_and_found_again(tmp_path: Path) -> None:
    claim(tmp_path / "out", {"seed": 1, "sites": ("a", "b")})
    assert json.loads((tmp_path / "out" / "plan.json").read_text()) == {"seed": 1, "sites": ["a", "b"]}
    claim(tmp_path / "out", {"seed": 1, "sites": ("a", "b")})
    with pytest.raises(ConfigError, match=r"seed = 1 there, 2 asked"):
        claim(tmp_path / "out", {"seed": 2, "sites": ("a", "b")})


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        claim(tmp_path, {"seed": 1})


def test_results_come_in_order_and_progress_counts_tasks() -> None:
    told: list[tuple[int, int]] = []
    numbers = list(range(2 * BATCH + 3))
    assert list(in_order(square, numbers, 1, lambda done, total: told.append((done, total)))) == [
        n * n for n in numbers
    ]
    assert told == [(16, 35), (32, 35), (35, 35)]
    assert list(in_order(square, [], 2)) == []


def test_a_file_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    assert not complete(path)
    path.write_bytes(b"")
    assert not complete(path)
    put(path, csv_bytes(("a", "b"), [(1, "x,y")]))
    assert complete(path)
    assert path.read_bytes() == b'a,b\n1,"x,y"\n'
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]
