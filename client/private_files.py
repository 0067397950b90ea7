"""Files that are the hospital's alone from their first byte on, and whole or absent, also after a power cut."""

import os
from pathlib import Path


def write_private(path: Path, text: str, rights: int = 0o600) -> None:
    """Write a file with these rights, under a temporary name that ends in ``.partial``, sync it, and rename it.

    Written by root it belongs to whom it belonged before; where it is new, to whose folder it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, rights)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        if os.geteuid() == 0:
            before = (path if os.path.lexists(path) else path.parent).lstat()
            os.fchown(descriptor, before.st_uid, before.st_gid)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
