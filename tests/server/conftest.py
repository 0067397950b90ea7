"""Invented runs, each written once for all tests of the reports."""

import sys
from pathlib import Path

import pytest

from server.report import write_report

sys.path.insert(0, str(Path(__file__).parent))
from example_run import VARIANTS, add_tables, write_cross_validation, write_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hospitals, the plain comparison, three seeds, with its report."""
    directory = write_run(tmp_path_factory.mktemp("run"))
    write_report(directory)
    return directory


@pytest.fixture(scope="session")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty ways of training, two seeds, with the tables."""
    return add_tables(write_run(tmp_path_factory.mktemp("variants"), arms=VARIANTS, seeds=[1, 2]))


@pytest.fixture(scope="session")
def cross_validation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six candidates at one centre, three seeds."""
    return write_cross_validation(tmp_path_factory.mktemp("cross_validation"))
