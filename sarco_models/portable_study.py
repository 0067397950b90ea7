"""A study file's text as it can be read anywhere: with the hash of the segmentation model that lies beside it now."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from sarco_models.config import StudyConfig, load_study
from sarco_models.errors import ConfigError

_NAMED = re.compile(r"^[ \t]*segmenter[ \t]*=.*$", re.MULTILINE)
_HASH = re.compile(r"^[ \t]*sha256[ \t]*=.*\n?", re.MULTILINE)


def portable_text(file: Path) -> str:
    """The text of a study file (TOML), comments and all; of one that names no segmentation model, as it is.

    Raises:
        ConfigError: the study is wrong, or its model is named in another way than on a line of its own.
    """
    study, text = load_study(file), file.read_text(encoding="utf-8")
    auto = study.image.auto
    if auto is None:
        return text
    line = f'segmenter = {json.dumps(auto.segmenter)}\nsha256 = "{auto.sha256}"'
    found = _NAMED.sub(lambda _: line, _HASH.sub("", text), count=1)
    again = StudyConfig.model_validate_json(json.dumps(tomllib.loads(found)))
    if again.digest != study.digest:
        raise ConfigError(
            f"{file}: image.auto: write it as a table, [image.auto], with lines segmenter = "
            f'{json.dumps(auto.segmenter)} and sha256 = "{auto.sha256}", so that the study can be read elsewhere'
        )
    return found
