"""Files of results: whole or absent, for their owner alone."""

import os
from pathlib import Path

from PIL import Image

from sarco_models.errors import ConfigError


def write_text(path: Path, text: str) -> None:
    """Write a text file.

    Raises:
        ConfigError: it cannot be written.
    """
    partial = _partial(path)
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ConfigError(f"{path}: {error.strerror}: name a folder that you may write to, with room on it") from None


def write_picture(path: Path, picture: Image.Image) -> None:
    """Write a PNG file, and the folders that it lies in.

    Raises:
        OSError: it cannot be written.
    """
    partial = _partial(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("wb") as file:
            picture.save(file, format="PNG")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.partial")
