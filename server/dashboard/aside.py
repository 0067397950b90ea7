"""Numbers that take seconds: computed beside the page, which shows everything else in the meantime."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

Value = TypeVar("Value")

MOST_KEPT = 512


class Aside(Generic[Value]):
    """Values by key, each computed once, one after the other, in a thread that holds up nobody who wants to end."""

    def __init__(self) -> None:
        """Nothing is computed yet."""
        self._lock = threading.Lock()
        self._found: dict[Hashable, Value | None] = {}
        self._under_way: set[Hashable] = set()
        self._wanted: queue.SimpleQueue[tuple[Hashable, Callable[[], Value]] | None] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None

    def get(self, key: Hashable, compute: Callable[[], Value]) -> tuple[bool, Value | None]:
        """Whether it is known, and the value: None where computing it failed. Never waits.

        Args:
            key: all that the value depends on.
            compute: called once for a key, in another thread.
        """
        with self._lock:
            if key in self._found:
                return True, self._found[key]
            if key not in self._under_way:
                self._under_way.add(key)
                self._wanted.put((key, compute))
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="aside", daemon=True)
                self._worker.start()
        return False, None

    def _work(self) -> None:
        while (wanted := self._wanted.get()) is not None:
            key, compute = wanted
            value: Value | None = None
            try:
                value = compute()
            except Exception as error:  # the page says that there is no such number, and goes on
                log.warning("a number of the dashboard could not be computed: %s", type(error).__name__)
            with self._lock:
                self._under_way.discard(key)
                self._found[key] = value
                while len(self._found) > MOST_KEPT:
                    self._found.pop(next(iter(self._found)))

    def close(self) -> None:
        """End after what is wanted already."""
        self._wanted.put(None)
