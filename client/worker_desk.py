"""What a worker does with a request: find the site as it is today, answer, and remember where it stands."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch

from client.alone import hold
from client.answering import answer
from client.approval import code_digest
from client.audit import FILE as AUDIT
from client.site_today import Reopen, SiteToday
from client.tasks import handle
from client.worker_service import Asked, Service
from client.workspace import Site, SiteConfig
from sarco_models import wire
from sarco_models.chain import read
from sarco_models.config import load_config
from sarco_models.errors import ConfigError, ProtocolError, SarcoError
from sarco_models.framing import Buffer
from sarco_models.fusion import fixed_tensors
from sarco_models.image_cache import Progress
from sarco_models.messages import task_of
from sarco_models.wire import Reply, Request

log = logging.getLogger(__name__)

LOCK = "worker.lock"
_ROUND_DONE = ("Trained", "Updated", "Masked")
_BESIDE_BYTES = 16 << 20
"""What a message may have beside the model: names, sums, keys."""


class Desk:
    """One open site, warm, and what Status tells of it."""

    def __init__(self, site_toml: Path, locks: contextlib.ExitStack, progress: Progress) -> None:
        """Open the site and touch what is made at first use; raises what :func:`client.worker.run` says."""
        state = site_toml.parent / load_config(site_toml, SiteConfig).state
        try:
            state.mkdir(parents=True, exist_ok=True, mode=0o700)
            hold(locks, state / LOCK)
        except OSError as error:
            raise ConfigError(f"{state}: {error.strerror}: the worker must be able to write its state") from None
        self._today = SiteToday(site_toml, progress)
        site = self._site = self._today.now()
        self.limit = _warmed(site)
        self.name = site.name
        self.outdated = False
        self._done = _rounds_done(site)
        self._state: dict[str, Any] = {}
        self._idle()

    def status(self) -> dict[str, Any]:
        """What the worker tells of itself: whoever relays may read it, so there is nothing of the data in it."""
        site = self._site
        return {
            "name": site.name,
            "study": site.study.digest,
            **self._state,
            "done_rounds": len(self._done),
            "version": _version(),
            "code": code_digest(),
        }

    def work(self, asked: Asked, service: Service) -> list[Buffer] | None:
        """Answer one call; None where it is to be asked again."""
        started = time.monotonic()
        request: list[Request] = []

        def handled(site: Site, came: Request) -> Reply:
            request.append(came)
            self._working(came)
            return handle(site, came, service.wanted(asked))

        site_of = self._site_now()
        if self.outdated:
            log.warning("site.toml names other data or another study now: ending, to be started again")
            service.stop()
            return None
        reply, head = answer(site_of, lambda: _request(asked), handled)
        self._idle()
        self._told(request, reply, time.monotonic() - started)
        if service.stopping and reply == wire.Refused(self.name, wire.Code.TOO_LATE):
            return None
        return wire.to_buffers(reply, head)

    def _site_now(self) -> Callable[[], Site]:
        """Gives the site under the policy of today, or raises why there is none."""
        try:
            self._site = self._today.now()
        except Reopen:
            self.outdated = True
        except SarcoError as error:
            return partial(_raise, error)
        return lambda: self._site

    def _told(self, request: list[Request], reply: Reply, seconds: float) -> None:
        task = task_of(request[0]) if request else "what was no request"
        log.info("%s: %s after %.2f s", task, type(reply).__name__, seconds)
        if type(reply).__name__ in _ROUND_DONE:
            self._done = self._done | {int(getattr(reply, "round", 0))}

    def _working(self, request: Request) -> None:
        self._state = {
            "phase": "working",
            "task": task_of(request),
            "round": int(getattr(request, "round", 0)),
            "since": _now(),
        }

    def _idle(self) -> None:
        self._state = {"phase": "idle", "task": "", "round": 0, "since": _now()}


def _raise(error: SarcoError) -> NoReturn:
    raise error


def _request(asked: Asked) -> object:
    if asked.message is None:
        raise ProtocolError("what came is no message")
    return wire.from_bytes(asked.message)


def _warmed(site: Site) -> int:
    """Make now what is made at first use; returns the bytes of the largest message that this study can have."""
    torch.set_num_threads(site.threads)
    importlib.import_module("albumentations")  # a tenth of a second that the first round would wait for
    _ = site.persons, site.audit, site.ledger
    if site.study.federation.secure_aggregation:
        _ = site.identity
    if site.study.unplanned:  # no network can be built yet, and none is asked for
        return _BESIDE_BYTES
    numbers = sum(t.numel() for t in (*site.tensors.values(), *fixed_tensors(site.model).values()))
    _ = site.norms
    return 4 * numbers + _BESIDE_BYTES


def _rounds_done(site: Site) -> frozenset[int]:
    """Rounds of this study that the audit log has an answer of."""
    path = site.state / AUDIT
    if not path.exists():
        return frozenset()
    rows = (entry.facts for entry in read(path) if entry.kind == "reply")
    own = (facts for facts in rows if facts.get("study") == site.study.digest and facts.get("reply") in _ROUND_DONE)
    return frozenset(int(facts["round"]) for facts in own)


def _version() -> str:
    try:
        return importlib.metadata.version("sarco-fl")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
