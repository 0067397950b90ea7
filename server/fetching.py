"""Replies fetched in the background, so that one that is stuck on its way holds up nobody and no deadline.

Flower hands a reply over as soon as its sender has announced it, and then waits for its pieces, up to three minutes for
a sender that has died in the middle; its own grid fetches the pieces of several replies one after the other, and gives
all of them when the last has come. So each reply that was announced is opened by itself (:func:`replies_of`), a call
that takes long is left to itself, and another one asks for the rest. Flower calls a message unknown once its reply was
handed over: that is no loss as long as an earlier call still fetches it.

Flower's own reading of a reply raises where a sender has put together what is none, and the replies beside it are lost.
From then on each reply is fetched by itself, and one that cannot be read counts as an error of its sender.
"""

import copy
import functools
import itertools
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx
from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid

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


@dataclass(frozen=True)
class Announced:
    """A reply that its sender has announced; its pieces may be on their way, or never come.

    Attributes:
        id: of the message that it answers.
        open: waits for the pieces and gives the reply, or Flower's error in its place.
    """

    id: str
    open: Callable[[], Iterable[Message]]


def replies_of(grid: Grid) -> Callable[[list[str]], Iterable[Message | Announced]]:
    """How the replies to messages are asked for; Flower's own grid announces them, another gives what has come."""
    flowers = sys.modules.get("flwr.superlink.grid.http_grid")  # to import it costs a second
    if flowers is None or not isinstance(grid, flowers.HttpGrid):
        return lambda ids: grid.pull_messages(ids)

    def announced(ids: list[str]) -> list[Announced]:
        whole: Any = grid
        client = whole._runtime_client
        answer = client.PullMessages(flowers.PullAppMessagesRequest(message_ids=ids))
        found = []
        for message, tree in zip(answer.messages_list, answer.message_object_trees, strict=True):
            one = copy.copy(whole)
            handed = type(answer)(messages_list=[message], message_object_trees=[tree])
            one._client = _HandedOver(client, handed)
            asked = message.metadata.reply_to_message_id
            found.append(Announced(asked, functools.partial(one.pull_messages, [asked])))
        return found

    return announced


class _HandedOver:
    """Flower's client of the SuperLink, which has handed over one reply already: its grid goes on from there."""

    def __init__(self, client: Any, handed: Any) -> None:
        self._client, self._handed = client, handed

    def PullMessages(self, _request: Any) -> Any:
        return self._handed

    def close(self) -> None:
        """It belongs to the whole grid."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


_Brought = list[Message | Announced] | BaseException


@dataclass
class Fetching:
    """Calls under way, and what they have brought.

    Attributes:
        pull: the grid's (:func:`replies_of`); may be called from several threads at once.
    """

    pull: Callable[[list[str]], Iterable[Message | Announced]]
    _calls: dict[int, frozenset[str]] = field(default_factory=dict)
    _come: "queue.SimpleQueue[tuple[int, _Brought]]" = field(default_factory=queue.SimpleQueue)
    _held: set[str] = field(default_factory=set)
    _awaited: set[str] = field(default_factory=set)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    _newest: int = -1
    _opened: int = 0
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
        until = time.monotonic() + min(max(seconds, _LEAST_S), PATIENCE_S)
        try:
            while not found:
                before = self._opened
                found += self._brought(*self._come.get(timeout=max(until - time.monotonic(), 0.0)))
                if self._opened == before:  # nothing was announced whose pieces are worth a moment
                    break
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

    def _open(self, number: int, reply: Announced) -> None:
        try:
            self._come.put((number, list(reply.open())))
        except (httpx.HTTPError, OSError) as error:  # for whoever takes
            self._come.put((number, error))
        except Exception as error:
            self._come.put((number, [_unreadable(reply.id, error)]))

    def _pulled(self, ids: list[str]) -> list[Message | Announced]:
        """The replies to these messages, all in one call as long as none was ever unreadable."""
        if not self._one_by_one:
            try:
                return list(self.pull(ids))
            except (httpx.HTTPError, OSError):
                raise
            except Exception:
                self._one_by_one = True
        found: list[Message | Announced] = []
        for id_ in ids:
            try:
                found += self.pull([id_])
            except (httpx.HTTPError, OSError):
                if not found:
                    raise
                break  # what has come was handed over, and comes no second time
            except Exception as error:
                found.append(_unreadable(id_, error))
        return found

    def _brought(self, number: int, outcome: _Brought) -> list[Message]:
        """What a call that has ended brought, without what others still fetch; what was announced is opened."""
        ended = self._calls.pop(number, frozenset())
        for reply in outcome if isinstance(outcome, list) else ():
            if isinstance(reply, Announced):
                opening = next(self._numbers)
                self._calls[opening] = frozenset({reply.id})
                self._opened += 1
                threading.Thread(target=self._open, args=(opening, reply), daemon=True).start()
        under_way = frozenset().union(*self._calls.values())
        self._held -= ended - under_way
        if isinstance(outcome, BaseException):
            self._faults += 1
            if not passes(outcome) or self._faults == _FAULTS:
                raise outcome
            return []
        self._faults, found = 0, []
        for message in (reply for reply in outcome if isinstance(reply, Message)):
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


def _unreadable(id_: str, why: Exception) -> Message:
    """Flower's error message in place of the reply to a message."""
    log.warning("a reply that cannot be read: %s: %s", type(why).__name__, str(why)[:300])
    asked = Message(RecordDict(), 0, "train")
    vars(asked.metadata)["_message_id"] = id_
    return Message(Error(_FAILED_THERE, "the reply cannot be read"), reply_to=asked)
