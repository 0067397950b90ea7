"""Reading a configuration file: it becomes one frozen, closed, typed tree, or every fault in it is named at once."""

import difflib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sarco_models.errors import ConfigError


class Config(BaseModel):
    """Base of every configuration: immutable, no coercion, no unknown keys, no infinities."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


ConfigType = TypeVar("ConfigType", bound=Config)


def load_config(path: Path, kind: type[ConfigType], changes: Mapping[str, Any] | None = None) -> ConfigType:
    """Read a TOML file as ``kind``; ``changes`` are laid over it table by table.

    Raises:
        ConfigError: names the file, the field, the value and the way out, for every fault at once.
    """
    tree = merged(read_toml(path), changes or {})
    try:
        # Through JSON, so that strict mode takes TOML's arrays for tuples and still refuses "48" for 48.
        return kind.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(path, kind, tree, fault) for fault in error.errors())) from None
    except TypeError as error:
        raise ConfigError(f"{path}: {error}; write dates and times as text") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file, or JSON where the suffix says so; raises ConfigError with the file and line."""
    try:
        text = path.read_text(encoding="utf-8")
        return dict(json.loads(text)) if path.suffix == ".json" else tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; name an existing TOML file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; name an existing TOML file") from None
    except (ValueError, TypeError) as error:  # of TOML, of JSON, of UTF-8; JSON that is no table
        raise ConfigError(f"{path}: cannot be read: {error}") from None


def merged(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``tree`` with ``changes`` laid over it: tables are merged, everything else is replaced."""
    result = dict(tree)
    for key, value in changes.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return result


def _explain(path: Path, kind: type[Config], tree: Mapping[str, Any], fault: Any) -> str:
    """One line for one fault: file, field, value, what was expected, and the nearest known key for a typo."""
    where = ".".join(str(part) for part in fault["loc"]) or kind.__name__
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        known = _known_keys(tree, kind, fault["loc"][:-1])
        near = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(known))}"
        return f"{path}: {where}: unknown key; {hint}"
    if fault["type"] == "missing":
        return f"{path}: {where}: this key is missing; add it"
    value = fault["input"]
    shown = f" = {value!r}" if isinstance(value, str | int | float | bool) else ""
    return f"{path}: {where}{shown}: {message}"


def _known_keys(tree: Mapping[str, Any], kind: type[Config], place: tuple[str | int, ...]) -> list[str]:
    """Names of the fields of the config at ``place``."""
    fields: Any = kind
    for part in place:
        if isinstance(part, int) or part not in fields.model_fields:  # a place in a list, a key of a dict
            continue
        annotation = fields.model_fields[part].annotation
        fields = next(
            (a for a in (annotation, *getattr(annotation, "__args__", ())) if hasattr(a, "model_fields")), kind
        )
    return list(fields.model_fields)
