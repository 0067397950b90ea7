"""Files that are whole or absent, also after a power cut: written under a temporary name, synced, renamed.

What a process that was killed leaves behind ends in ``.partial``.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write_array(path: Path, vector: NDArray[Any] | None = None, **named: NDArray[Any]) -> None:
    """Write one vector (npy), or several by name (npz), so that the file is whole or absent."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        if vector is not None:
            np.save(file, vector, allow_pickle=False)
        else:
            np.savez(file, allow_pickle=False, **named)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that the file is whole or absent; a number that is not finite is refused."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False))


def write_text(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Write a text file so that it is whole or absent, also after a power cut; ``mode`` from its first moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
