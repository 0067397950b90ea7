"""Replies fetched in the background, so that one that is stuck on its way holds up nobody and no deadline.

Flower hands a reply over as soon as its sender has announced it, and then waits for its pieces, up to three minutes for
a sender that has died in the middle; one call for several replies returns when all have come. So a call that takes long
is left to itself, and another one asks for the rest. Flower calls a message unknown once its reply was handed over:
that is no loss as long as an earlier call still fetches it.

Flower's own reading of a reply raises where a sender has put together what is none, and the replies beside it are lost.
From then on each reply is fetched by itself, and one that cannot be read counts as an error of its sender.
"""

import functools
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import httpx
from flwr.app import Error, Message, RecordDict

log = logging.getLogger(__name__)

PATIENCE_S = 2.0
"""After that long, a call is left to itself."""

_LEAST_S = 0.2
"""A look takes that long at most, even at the deadline."""

_MOST_CALLS = 16
"""At once: while the SuperLink is away, all of them wait for it."""

_UNKNOWN = 3
"""Flower's error for a message that it does not know: expired, or handed over already."""

_FAILED_THERE = 2
"""Flower's error for a site whose app has failed; it stands for a reply that is none, too."""

_FAULTS, _PAUSE_S = 20, 1.0
"""So many faults of the SuperLink in a row, each with a pause after it, are too many."""

_FIRST_LOOK_S, _LAST_LOOK_S, _TRIES = 0.1, 2.0, 10**6
"""For a piece that its sender has not brought yet. The study's deadline bounds how long."""


def look_sooner(seconds: float) -> None:
    """Let Flower's grid look again for a piece after a tenth of a second, at last every two; Flower waits 1, 2 ... 10.

    A reply is announced before its pieces are there, so that every large one meets this wait.

    Args:
        seconds: of the study's deadline: pieces that come later are of no use. Flower would look for two hours.
    """
    from flwr.supercore.inflatable.inflatable_utils import pull_objects
    from flwr.superlink.grid import http_grid

    sooner = functools.partial(
        pull_objects,
        initial_backoff=_FIRST_LOOK_S,
        backoff_cap=_LAST_LOOK_S,
        max_tries_per_object=_TRIES,
        max_time=seconds,
    )
    vars(http_grid)["pull_objects"] = sooner


def of_the_line(error: Exception) -> bool:
    """Whether it is the SuperLink's: it is away, or its database is locked; anything else is a fault of ours."""
    return isinstance(error, httpx.HTTPError | OSError) or type(error).__module__.startswith("flwr.")


@dataclass
class Fetching:
    """Calls under way, and what they have brought.

    Attributes:
        pull: the grid's; may be called from several threads at once.
    """

    pull: Callable[[list[str]], Iterable[Message]]
    _calls: dict[int, frozenset[str]] = field(default_factory=dict)
    _come: "queue.SimpleQueue[tuple[int, list[Message] | BaseException]]" = field(default_factory=queue.SimpleQueue)
    _held: set[str] = field(default_factory=set)
    _awaited: set[str] = field(default_factory=set)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    _newest: int = -1
    _impatient: bool = False
    _one_by_one: bool = False
    _faults: int = 0

    def take(self, ids: Iterable[str], seconds: float) -> list[Message]:
        """What has come of these messages; an empty list after ``seconds``, or after a while, where nothing has.

        Raises:
            Exception: the SuperLink cannot be asked, or has failed many times in a row.
        """
        self._awaited = set(ids)
        self._held &= self._awaited
        # What nobody waits for any more may be stuck for ever; it must not keep others from being fetched.
        self._calls = {number: asked for number, asked in self._calls.items() if asked & self._awaited}
        wanted = frozenset(self._awaited - self._held)
        may_call = self._newest not in self._calls or (self._impatient and len(self._calls) < _MOST_CALLS)
        if wanted and may_call:
            self._newest = next(self._numbers)
            self._calls[self._newest] = wanted
            threading.Thread(target=self._fetch, args=(self._newest, sorted(wanted)), daemon=True).start()
        found: list[Message] = []
        try:
            found += self._brought(*self._come.get(timeout=min(max(seconds, _LEAST_S), PATIENCE_S)))
            while True:
                found += self._brought(*self._come.get_nowait())
        except queue.Empty:
            self._impatient = self._newest in self._calls
            return found

    def _fetch(self, number: int, ids: list[str]) -> None:
        try:
            self._come.put((number, self._pulled(ids)))
        except BaseException as error:  # for whoever takes
            if passes(error):
                time.sleep(_PAUSE_S)
            self._come.put((number, error))

    def _pulled(self, ids: list[str]) -> list[Message]:
        """The replies to these messages, all in one call as long as none was ever unreadable."""
        if not self._one_by_one:
            try:
                return list(self.pull(ids))
            except (httpx.HTTPError, OSError):
                raise
            except Exception:
                self._one_by_one = True
        found: list[Message] = []
        for id_ in ids:
            try:
                found += self.pull([id_])
            except (httpx.HTTPError, OSError):
                if not found:
                    raise
                break  # what has come was handed over, and comes no second time
            except Exception as error:
                log.warning("a reply that cannot be read: %s: %s", type(error).__name__, str(error)[:300])
                found.append(_failed(id_))
        return found

    def _brought(self, number: int, outcome: list[Message] | BaseException) -> list[Message]:
        """What a call that has ended brought, without what others still fetch."""
        ended = self._calls.pop(number, frozenset())
        under_way = frozenset().union(*self._calls.values())
        self._held -= ended - under_way
        if isinstance(outcome, BaseException):
            self._faults += 1
            if not passes(outcome) or self._faults == _FAULTS:
                raise outcome
            return []
        self._faults, found = 0, []
        for message in outcome:
            id_ = message.metadata.reply_to_message_id
            if message.has_error() and message.error.code == _UNKNOWN and id_ in under_way:
                self._held.add(id_)
            elif id_ in self._awaited:
                self._held.discard(id_)
                self._awaited.discard(id_)
                found.append(message)
        return found


def passes(error: BaseException) -> bool:
    """Whether it is a fault of the SuperLink itself, or of the way there, which may be over the next time."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.is_server_error
    return isinstance(error, httpx.TransportError)


def _failed(id_: str) -> Message:
    """Flower's error message in place of the reply to a message."""
    asked = Message(RecordDict(), 0, "train")
    vars(asked.metadata)["_message_id"] = id_
    return Message(Error(_FAILED_THERE, "the reply cannot be read"), reply_to=asked)
