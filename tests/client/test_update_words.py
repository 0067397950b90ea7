"""How a hospital is told what its update is like, before it decides on a study."""

from pathlib import Path
from typing import Any

import pytest

from client.preview.look import preview
from client.preview.shown_replies import detail
from client.study_words import missing, sections
from client.update_words import NO_PROTECTION, amount, form
from sarco_models.config import StudyConfig
from sarco_models.encoding import most_bytes
from sarco_models.fusion import build_model
from sarco_models.parameters import Manifest, trained_tensors
from tests.client.hospitals import hospital
from tests.sites import tables_study


def study_in(encoding: str, compression: str = "none", **federation: Any) -> StudyConfig:
    return tables_study(
        federation={"min_sites": 3, "rounds": 10, "encoding": encoding, "compression": compression, **federation}
    )


def manifest_of(study: StudyConfig) -> Manifest:
    return Manifest.of(trained_tensors(build_model(study, weights="none").net))


def each_round(study: StudyConfig, folder: Path) -> tuple[str, ...]:
    policy = hospital(folder, study).policy
    found = sections(study, manifest_of(study), policy)
    return next(s.sentences for s in found if s.heading == "What leaves in every round")


def test_plain_parameters_are_told_of_as_before(tmp_path: Path) -> None:
    study = study_in("float32")
    kilobytes = 4 * sum(manifest_of(study).sizes) / 1e3
    update, over, _ = each_round(study, tmp_path)
    assert update.startswith(f"Your update: {kilobytes:.1f} kB, ")
    assert over.endswith("as much down.")


@pytest.mark.parametrize(
    ("encoding", "compression", "said"),
    [
        ("bf16", "none", "rounded to 8 binary digits (bf16)"),
        ("int8", "none", "rounded to 255 steps in each row of a tensor (int8)"),
        ("int8", "zstd", "compressed without loss (zstd)"),
        ("float32", "zstd", "exact to the last bit"),
    ],
)
def test_an_encoding_is_told_with_its_bytes_and_what_becomes_of_the_rest(
    tmp_path: Path, encoding: str, compression: str, said: str
) -> None:
    study = study_in(encoding, compression)
    manifest = manifest_of(study)
    update, words, over, _ = each_round(study, tmp_path)
    most = "at most " * (compression == "zstd")
    assert update.startswith(f"Your update: {most}{most_bytes(manifest, encoding) / 1e3:.1f} kB, ")
    assert said in words
    assert (NO_PROTECTION in words) == (encoding != "float32")
    assert ("is added to your next update" in words) == (encoding != "float32")
    assert over.endswith(
        "as much down." if encoding == "float32" else f"{most}{amount(40 * sum(manifest.sizes))} down."
    )


def test_the_policy_is_asked_for_the_bytes_that_travel(tmp_path: Path) -> None:
    study = study_in("int8")
    manifest, policy = manifest_of(study), hospital(tmp_path, study).policy
    needed = most_bytes(manifest, "int8")
    keys = [
        [m.write for m in missing(study, manifest, policy.model_copy(update={"max_parameter_bytes": limit}))]
        for limit in (needed - 1, needed)
    ]
    assert keys == [[f"{needed} or more"], []]


@pytest.mark.slow
def test_the_preview_shows_the_bytes_and_hashes_of_what_would_leave(tmp_path: Path) -> None:
    study = study_in("int8", "zstd")
    hospital(tmp_path, study)
    found = preview(tmp_path / "study.json", tmp_path / "site.toml", image=False)
    answer = next(a for a in found.answers if a.request == "Train")
    shown = detail(answer, found)
    assert shown["title"] == "Train → Updated"
    assert form(study.federation) in shown["what"]
    tensors = [p for p in answer.pieces if p.part.kind == "parameter"]
    assert sum(p.part.bytes for p in tensors) <= most_bytes(manifest_of(study), "int8")
    assert all(p.part.dtype.startswith("int8") for p in tensors)
