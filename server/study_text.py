"""A study file with the plan of its network written into it, as a person would: all else stays as it was, comments too.

The text is read again before anything is written: it must be the planned study, and nothing else.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sarco_models.config import StudyConfig
from sarco_models.errors import ConfigError
from server.plan_file import Planned
from server.whole_files import write_text

_HEADER = re.compile(r"\s*\[+\s*([^\]]+?)\s*\]+\s*(#.*)?$")
_LINE = re.compile(r"^(\s*)([A-Za-z0-9_]+)(\s*=\s*)([^#]*?)(\s*#.*)?$")
_FRAMING = ("size", "framing", "window_mm", "roi")
"""Keys of [image] that a plan decides."""


def write_planned(draft: Path, planned: Planned, out: Path) -> None:
    """Write the study with its plan.

    Args:
        draft: the study file without a plan (TOML).
        planned: what was planned for it.
        out: the file to write; an existing one is left alone unless it holds the same study.

    Raises:
        ConfigError: ``out`` holds something else, or the draft is written in a way that this cannot extend.
    """
    text = with_plan(draft.read_text(encoding="utf-8"), planned)
    if _digest(text) != planned.study.digest:
        raise ConfigError(
            f"{draft}: is written in a way that this command cannot extend, or was changed since the plan was made: "
            "write [image] and [segmentation] as sections of their own, on lines of their own"
        )
    if out.exists() and out.read_text(encoding="utf-8") != text:
        raise ConfigError(f"--out {out}: is there already and says something else: name another file, or remove it")
    try:
        write_text(out, text)
    except OSError as error:
        raise ConfigError(f"--out {out}: {error.strerror}: name a file that can be written") from None


def require_room(out: Path) -> None:
    """Raise ConfigError unless a file can be written that is not there yet; held against before anybody is asked."""
    if out.exists():
        raise ConfigError(
            f"--out {out}: is there already, and nobody has been asked yet: name another file, or remove it"
        )
    place = out.absolute().parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise ConfigError(f"--out {out}: {place} is no folder that can be written: name a file of another one")


def with_plan(text: str, planned: Planned) -> str:
    """The text of a study file with the plan, and images framed as it asks."""
    image = planned.study.image.model_dump(mode="json")
    framed = _with_values(text, "image", {key: image[key] for key in _FRAMING})
    return framed.rstrip("\n") + "\n\n" + "\n".join(_section(planned)) + "\n"


def _section(planned: Planned) -> Iterable[str]:
    yield "[segmentation.plan]                  # made by the hospitals' sums; every number and why is in plan.json"
    values = planned.plan.model_dump(mode="json")
    why = {reason.what: reason.value for reason in planned.reasons}
    words = {
        "patch": f"pixels; the window of {why.get('window', '')}",
        "mm_per_pixel": f"of the network's input, from {len(planned.sites)} hospitals",
        "features": f"of {why.get('stages', '')} stages",
        "grey_mean": "of the pixels inside the muscles",
    }
    for key, value in values.items():
        line = f"{key} = {_toml(value)}"
        yield f"{line:<36} # {words[key]}" if key in words else line


def _with_values(text: str, table: str, values: Mapping[str, Any]) -> str:
    """The text with these keys of a table, which need not be there yet; what explained another value goes."""
    lines, left, inside, after = text.splitlines(), dict(values), False, -1
    for number, line in enumerate(lines):
        header = _HEADER.match(line)
        if header and not _LINE.match(line):
            inside = header[1] == table and not line.lstrip().startswith("[[")
            after = number + 1 if inside else after
        elif inside and (found := _LINE.match(line)):
            after = number + 1
            if found[2] in left:
                lines[number] = _replaced(found, left.pop(found[2]))
    added = [f"{key} = {_toml(value)}" for key, value in left.items()]
    if after < 0:
        return "\n".join([*lines, "", f"[{table}]", *added]) + "\n"
    return "\n".join([*lines[:after], *added, *lines[after:]]) + "\n"


def _replaced(found: re.Match[str], value: Any) -> str:
    """A line with another value, and what it was; one whose value is the same stays as it is."""
    if _same(found[4], value):
        return found[0]
    line, before = f"{found[1]}{found[2]}{found[3]}{_toml(value)}", found[4].strip()
    return f"{line:<36} # of the plan; in the draft {before}"


def _same(written: str, value: Any) -> bool:
    """Whether a value as TOML writes it is this one: 46 is 46.0."""
    try:
        return bool(tomllib.loads(f"x = {written}")["x"] == value)
    except tomllib.TOMLDecodeError:
        return False


def _toml(value: Any) -> str:
    """Of text, numbers, booleans and lists of them JSON's notation is TOML's, too."""
    return json.dumps(value, ensure_ascii=False)


def _digest(text: str) -> str:
    """Of the study that a text is; empty where it is none."""
    try:
        return StudyConfig.model_validate_json(json.dumps(tomllib.loads(text))).digest
    except (tomllib.TOMLDecodeError, ValidationError, TypeError):
        return ""
