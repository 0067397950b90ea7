"""One worker at a time: a lock that ends with the process that holds it, however that ends."""

import contextlib
import fcntl
import os
from pathlib import Path

from sarco_models.errors import ProcessError


class Taken(ProcessError):
    """Another worker is at this socket, or at this hospital's state."""


def hold(locks: contextlib.ExitStack, path: Path) -> None:
    """Lock a file until ``locks`` close, or this process ends.

    Raises:
        Taken: another process holds it.
        OSError: it cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    locks.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Taken(f"{path}: a worker of this hospital is running already: leave it, or end it first") from None
