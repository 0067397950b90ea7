"""What Flower sends to every hospital is the code that hospitals review, and nothing else."""

import hashlib
import io
import shutil
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk

# flwr 1.41 asks pathspec for a pattern by a name that pathspec is about to drop
pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")

ROOT = Path(__file__).resolve().parent.parent
FLOWERS_OWN = {"pyproject.toml", ".info/CONTENT"}
CACHES = shutil.ignore_patterns("__pycache__", "*.safetensors")
# What lies about in a checkout that somebody works in. Flower's own patterns would pack the tables of people.
LITTER = (
    "patients.json",
    "participants.csv",
    "sites/alpha/site.toml",
    "sites/alpha/notes.md",
    "runs/one/study.json",
    "client/participants.json",
    "client/participants.csv",
    "client/__pycache__/app.cpython-311.pyc",
    "server/model.safetensors",
    "sarco_models/weights.pt",
    "sarco_models/cases.jsonl",
    "configs/sites.json",
    "notes.yaml",
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the tree, with data and weights where they do not belong."""
    root = tmp_path / "checkout"
    root.mkdir()
    for folder in ("server", "client", "sarco_models", "simulation", "configs", "tests", "docs"):
        shutil.copytree(ROOT / folder, root / folder, ignore=CACHES)
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, root / name)
    for name in LITTER:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("{}", encoding="utf-8")
    return root


def reviewed() -> set[str]:
    """Python files of the three packages that travel, the shipped settings, README and licence."""
    found = {ROOT / "README.md", ROOT / "LICENSE", *(ROOT / "configs").rglob("*.toml")}
    for package in ("server", "client", "sarco_models"):
        found |= set((ROOT / package).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix() for path in found}


def test_the_bundle_holds_the_reviewed_code_and_nothing_else(checkout: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(build_fab_from_disk(checkout))) as fab:
        packed = set(fab.namelist())
        assert packed - FLOWERS_OWN == reviewed()
        assert packed >= FLOWERS_OWN
        for name in packed - FLOWERS_OWN:
            assert fab.read(name) == (ROOT / name).read_bytes(), name


def test_the_same_tree_gives_the_same_bundle(checkout: Path) -> None:
    first, second = (hashlib.sha256(build_fab_from_disk(checkout)).hexdigest() for _ in range(2))
    assert first == second, "a hospital could not tell by its hash that it received the code that it reviewed"
