"""A study file that names a segmentation model is the same study wherever its text is put."""

from pathlib import Path

import pytest

from sarco_models.config import load_study
from sarco_models.errors import ConfigError
from sarco_models.portable_study import portable_text
from tests.finders import stored_finder

TEXT = """name = "tiny"
title = "A tiny study"
label = {column = "frail", rule = "invented2026"}
[image]
roi = "auto"   # nobody draws in routine
%s
[model]
modalities = ["image"]
"""
TABLE = "[image.auto]\nsegmenter = '../home/finder'  # as it lies here\n%sotherwise = \"leave_out\""


@pytest.mark.parametrize("given", ["", 'sha256 = ""\n'])
def test_the_text_can_be_read_elsewhere_and_is_the_same_study(tmp_path: Path, given: str) -> None:
    stored_finder(tmp_path / "home" / "finder")
    first = tmp_path / "studies" / "study.toml"
    first.parent.mkdir()
    first.write_text(TEXT % (TABLE % given))
    elsewhere = tmp_path / "elsewhere.toml"
    elsewhere.write_text(portable_text(first))
    assert load_study(elsewhere).digest == load_study(first).digest
    assert "# nobody draws in routine" in elsewhere.read_text()
    assert portable_text(elsewhere) == elsewhere.read_text()


def test_a_study_without_a_model_stays_as_it_is() -> None:
    path = Path("configs/study.toml")
    assert portable_text(path) == path.read_text(encoding="utf-8")


def test_what_cannot_be_rewritten_is_said_with_the_lines_to_write(tmp_path: Path) -> None:
    stored_finder(tmp_path / "home" / "finder")
    path = tmp_path / "home" / "study.toml"
    path.write_text(TEXT % 'auto = {segmenter = "../home/finder"}')
    with pytest.raises(ConfigError, match=r'write it as a table, \[image\.auto\], with lines segmenter = "finder" and'):
        portable_text(path)
