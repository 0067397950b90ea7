"""Flower's SuperExec in a launcher of our own: ``python -m client.superexec FLOWER'S ARGUMENTS``.

Flower starts a Python for every message, which imports Flower and gRPC anew: a second of a processor, and longer where
two processors have other work. Here a process that has imported them waits, and a copy of it (fork) answers a message.
The copy runs what Flower's ``flwr-clientapp`` runs, as the same account, and ends after one message. The process that
waits never runs what the coordinator shipped; it was made before the SuperExec has read its secret, holds no module of
ours, and has one thread. Where it is gone, a message is answered in Flower's own way.
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

log = logging.getLogger(__name__)

CLIENT_APP = "flwr-clientapp"
"""The command of Flower that answers one message."""

_OURS = {"client", "sarco_models"}


class Copies:
    """The process that waits, and what is asked of it; to be made before there is a second thread."""

    def __init__(self) -> None:
        """Make the process that waits. It and its copies never return from here."""
        orders, self._orders = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._orders)
            words = awaited(orders)
            if words is not None:
                answer(words)
            sys.exit()
        os.close(orders)

    def start(self, words: Sequence[str], **given: Any) -> Any:
        """What Flower calls instead of ``subprocess.Popen``."""
        if words[0] == CLIENT_APP:
            order = json.dumps({"words": list(words), "quiet": bool(given)}) + "\n"
            try:
                os.write(self._orders, order.encode())
            except OSError as error:
                log.warning("the process that waits for messages is gone (%s): this one starts anew", error.strerror)
            else:
                return None
        return subprocess.Popen(words, **given)  # noqa: S603 - Flower's own words


def awaited(orders: int) -> list[str] | None:
    """Make a copy for every order: the words of its command in the copy; None, here, when nobody can ask any more."""
    _called("clientapp-ready")
    _imported()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # copies that have ended are not waited for
    with os.fdopen(orders, encoding="utf-8") as lines:
        for line in lines:
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                return _words(json.loads(line))
    return None


def _words(order: dict[str, Any]) -> list[str]:
    if order["quiet"]:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
    return [str(word) for word in order["words"]]


def answer(words: list[str]) -> None:
    """Answer one message as Flower's command does."""
    from flwr.supernode.cli.flwr_clientapp import flwr_clientapp

    _called(CLIENT_APP)
    sys.argv = words
    flwr_clientapp()


def _imported() -> None:
    """All that answering needs, but none of ours: of us, what the coordinator shipped is imported, as Flower does."""
    for name in ("flwr.supernode.cli.flwr_clientapp", "client.app"):
        importlib.import_module(name)
    for name in [name for name in sys.modules if name.split(".")[0] in _OURS]:
        del sys.modules[name]
    gc.collect()
    gc.freeze()  # the copies share it


def _called(name: str) -> None:
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name, encoding="utf-8")  # for whoever lists processes


def main() -> None:
    """Run Flower's SuperExec until it ends."""
    copies = Copies()
    from flwr.supercore.cli.flower_superexec import flower_superexec
    from flwr.supercore.superexec.executor import subprocess_executor

    getattr(subprocess_executor, "subprocess")  # noqa: B009 - another release would not notice the replacement
    replacement = SimpleNamespace(Popen=copies.start, DEVNULL=subprocess.DEVNULL)
    vars(subprocess_executor)["subprocess"] = replacement
    sys.argv[0] = "flower-superexec"
    flower_superexec()


if __name__ == "__main__":
    main()
