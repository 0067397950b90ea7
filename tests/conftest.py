"""Sites that many tests read and none changes; makers of others are in ``tests/sites.py``."""

from pathlib import Path

import pytest

from tests.sites import image_site, tables_site


@pytest.fixture(scope="session")
def tables_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of 24 participants with tables only. Copy it before you change it."""
    return tables_site(tmp_path_factory.mktemp("session") / "alpha")


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of 12 participants, the last of them without an image. Copy it before you change it."""
    return image_site(tmp_path_factory.mktemp("session") / "beta", without=1)
