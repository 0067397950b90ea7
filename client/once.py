"""What a hospital answers of one model in a study, never of a second: two answers would tell who is between."""

import contextlib
import hashlib
import json
import os
from pathlib import Path


def first_asked(state: Path, what: str, study: str, about: list[object]) -> bool:
    """Whether this is the first time in the study that this is asked, or the very same again, as after a crash.

    The note is on the disk before anything is computed, whole, and never written over: of two processes that are asked
    at once, one is first.

    Args:
        state: folder of the hospital.
        what: a word for the question; the note is ``WHAT-STUDY.txt``.
        study: digest.
        about: what must be the same: setup, model, threshold.
    """
    words = json.dumps(about)
    path = state / f"{what}-{study}.txt"
    if not path.is_file():
        state.mkdir(parents=True, exist_ok=True)
        unique = hashlib.sha256(words.encode()).hexdigest()[:16]
        partial = state / f"{what}-{unique}.{os.getpid()}.note"
        with partial.open("w", encoding="utf-8") as file:
            file.write(words)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another process was first; what it has noted counts
            path.hardlink_to(partial)
        partial.unlink()
        settle(state)
    return path.read_text(encoding="utf-8") == words


def settle(folder: Path) -> None:
    """Wait until the names of files in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
