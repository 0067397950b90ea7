"""Flower's SuperNode in a launcher of our own: ``python -m client.supernode --contact FILE -- FLOWER'S ARGUMENTS``.

What is promised: the process ends when its main loop ends, whatever ended it, with a code that says why
(:class:`client.contact.End`) and one plain sentence on stderr. Answers that mean "later" (500, 429, a cut connection)
are asked again instead of ending the loop. A connection that hangs while the coordinator answers is ended.
The pause between two looks for messages is short while a run is at work, and Flower's three seconds when nothing is.

This is the one place at a hospital that knows Flower's private names; they are those of the pinned release.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import importlib
import logging
import math
import os
import signal
import ssl
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import httpx
import uvicorn
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.supernode import fleet_http_connection, start_client_internal
from flwr.supernode.cli.flower_supernode import flower_supernode
from flwr.supernode.fleet_http_client import FleetHttpClient

from client.contact import LEASE_S, REMEDIES, SAYS, Answer, Contact, End, cut, refusal
from client.node_key import certificate_chain
from sarco_models.whole_bodies import with_whole_bodies

log = logging.getLogger(__name__)

LATER = frozenset({408, 425, 429, 500})
"""Answers that Flower takes for the end and that are none; 502, 503 and 504 it asks again by itself."""

_LOOK_S, _LOOK_LONGEST_S = 0.2, 3.0
_EAGERNESS = 0.02
"""Pause between two looks, as a share of the time since the last message: .2 s up to ten seconds, 3 s after 150."""

_SOONER = functools.partial(pull_objects, initial_backoff=0.1, backoff_cap=2.0, max_tries_per_object=10**6)
"""A message is announced before its pieces are there; Flower looks for one again after 1, 2 ... 10 s."""

_MOST_BODY = 2000
_AGAIN_S = 3.0
_LONGEST_RETRY_AFTER_S = 30.0
_WATCH_EVERY_S = 5.0
_LEAVE_S = 4.5


class WatchedClient(FleetHttpClient):
    """Flower's client of the coordinator; a :class:`Contact` hears of everything, and "later" is no end."""

    contact: Contact
    own_certificate: tuple[Path, Path] | None = None
    lease_s: float = LEASE_S + 15.0

    def __init__(self, base_url: str, *, verify: ssl.SSLContext | bool | str = True, **rest: Any) -> None:
        """``verify`` as Flower gives it; a client certificate is added where the kit holds one."""
        if self.own_certificate is not None and isinstance(verify, ssl.SSLContext):
            with tempfile.TemporaryDirectory() as place:
                verify.load_cert_chain(*certificate_chain(*self.own_certificate, Path(place)))
        super().__init__(base_url, verify=verify, **rest)

    def _send(self, context: Any, *, stream: bool = False) -> httpx.Response:
        path = context.request.url.path.rpartition("/")[2]
        try:
            response = super()._send(context, stream=stream)
        except httpx.TransportError as error:
            self.contact.failed(error)
            if cut(error):  # Flower would take it for a wrong certificate, and end
                raise httpx.ReadError("the connection was cut") from None
            raise
        body = response.text[:_MOST_BODY] if response.is_error else ""
        self.contact.heard(Answer(path, response.status_code, body, response.headers.get("date", "")))
        if response.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
            end_soon(self.contact, End.PROXY_LIMIT)
        if response.status_code in LATER:
            time.sleep(_retry_after(response))
            raise httpx.ReadError(f"HTTP {response.status_code}, asked again")
        return response

    def _unary_unary(self, *, path: str, **rest: Any) -> Any:
        """One request. The place of a SuperNode that was killed is held for a while: the first one waits for it."""
        until = time.monotonic() + (self.lease_s if path.endswith("/activate-node") else 0.0)
        while True:
            try:
                return super()._unary_unary(path=path, **rest)
            except httpx.HTTPStatusError as error:
                found = refusal(error.response.status_code, error.response.text[:_MOST_BODY], None)
                if found not in (End.NOT_ADMITTED, End.TWICE) or time.monotonic() >= until:
                    raise
            time.sleep(_AGAIN_S)


def _retry_after(response: httpx.Response) -> float:
    try:
        seconds = float(response.headers.get("retry-after", 0))
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S) if math.isfinite(seconds) else 0.0


class Pauses:
    """The pauses of Flower's main loop: it sleeps 3 s without a message, and .5 s while the ClientApp works."""

    def __init__(self, contact: Contact) -> None:
        """``contact`` learns that the loop lives."""
        self._contact, self._last_message = contact, time.monotonic()
        self._work_began: float | None = None

    def sleep(self, seconds: float) -> None:
        """Sleep instead of ``time.sleep(seconds)``."""
        now = time.monotonic()
        if seconds >= _LOOK_LONGEST_S:
            self._work_began = None
            time.sleep(min(max(_EAGERNESS * (now - self._last_message), _LOOK_S), _LOOK_LONGEST_S))
        else:
            self._last_message, self._work_began = now, self._work_began or now
            self._contact.working()
            time.sleep(min(max(_EAGERNESS * (now - self._work_began), _LOOK_S / 4), _LOOK_S))


_PULL = start_client_internal._pull_and_store_message


def pull(*, state: Any, **given: Any) -> int | None:
    """Flower's pull; where it brings nothing, an answer that lies here is sent all the same.

    Flower keeps the message of a run that has just ended, sends its answer in the next one's turn, and then waits with
    every answer until another message comes: a run that goes on after a death would hear each hospital once too late.
    """
    run_id: int | None = _PULL(state=state, **given)
    left = (entry for entry in list(state.msg_store.values()) if not entry.is_retrieved)
    return 0 if run_id is None and any(entry.message.metadata.reply_to_message_id for entry in left) else run_id


def runtime_config(app: Any, **given: Any) -> uvicorn.Config:
    """What Flower's server for the ClientApp gets: a request's body in one piece costs it much less."""
    gc.collect()
    gc.freeze()  # what was imported is there to stay: it is not looked through again and again
    return uvicorn.Config(app=with_whole_bodies(app), **given)


def watch(contact: Contact) -> None:
    """End this process when its connection hangs; runs in a thread of its own for ever."""
    while not contact.hangs():
        time.sleep(_WATCH_EVERY_S)
    log.error("%s", contact.hangs() or SAYS[End.FROZEN])
    end_soon(contact, End.FROZEN)


def end_soon(contact: Contact, end: End) -> None:
    """Let Flower tell the coordinator, so that it admits the next one at once; then end, whether it could or not."""
    if contact.ending is None:
        contact.ending = end
        threading.Timer(_LEAVE_S, leave, (contact, end)).start()
        os.kill(os.getpid(), signal.SIGTERM)


def leave(contact: Contact, end: End) -> NoReturn:
    """Say why in one sentence, and end now: Flower's threads would keep the process for ever."""
    contact.ended(end)
    remedy = REMEDIES.get(end, "")
    sentence = f"{contact.said}: {remedy}" if remedy else contact.said
    with contextlib.suppress(OSError):
        sys.stderr.write(f"SuperNode ended: {sentence}\n")
        sys.stderr.flush()
    os._exit(int(end))


def ended(contact: Contact, error: BaseException | None) -> End:
    """Why Flower's main loop has ended: what the coordinator said last counts, then how it ended."""
    known = contact.ending or contact.last
    if known is not None:
        return known
    if isinstance(error, SystemExit):
        return End.STOPPED if error.code in (0, None) else End.WILL_NOT_START
    return End.LOST


def main() -> None:
    """Run Flower's SuperNode until it ends, and say why."""
    parser = argparse.ArgumentParser(prog="python -m client.supernode", description=__doc__)
    parser.add_argument("--contact", type=Path, required=True, help="file that says how the connection stands")
    parser.add_argument("--client-certificate", type=Path, help="of the kit, where the gate asks for one")
    parser.add_argument("--node-key", type=Path, help="with --client-certificate: the key that it is for")
    parser.add_argument("--lease", type=float, default=WatchedClient.lease_s, help="seconds to wait for its place")
    ours, theirs = parser.parse_known_args()
    WatchedClient.lease_s = ours.lease
    contact = Contact(ours.contact)
    WatchedClient.contact = contact
    if ours.client_certificate:
        WatchedClient.own_certificate = (ours.client_certificate, ours.node_key)
    # the package shows a function under this name, and the module is behind it
    command = importlib.import_module("flwr.supernode.cli.flower_supernode")
    for module, name, replacement in (
        (fleet_http_connection, "FleetHttpClient", WatchedClient),
        (start_client_internal, "time", SimpleNamespace(sleep=Pauses(contact).sleep)),
        (start_client_internal, "_pull_and_store_message", pull),
        (start_client_internal, "pull_objects", _SOONER),
        (command, "uvicorn", SimpleNamespace(Config=runtime_config, Server=uvicorn.Server)),
    ):
        getattr(module, name)  # another release of Flower would not notice the replacement
        setattr(module, name, replacement)
    threading.Thread(target=watch, args=(contact,), daemon=True).start()
    sys.argv = ["flower-supernode", *(word for word in theirs if word != "--")]
    try:
        flower_supernode()
    except BaseException as error:  # whatever it is, the process ends, and says why
        if not isinstance(error, SystemExit):
            log.exception("Flower's SuperNode failed")
        leave(contact, ended(contact, error))
    leave(contact, ended(contact, None))


if __name__ == "__main__":
    main()
