"""Work that needs torch, done by a process that ends with it: whoever asked stays small while it waits or follows.

What goes in and what comes out is JSON: nothing is unpickled, so a process of another account can only say a value.
An error that a user can mend comes back with its words; where torch is loaded here already a process saves nothing,
and the work is done here.
"""

from __future__ import annotations

import importlib
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sarco_models import errors
from sarco_models.errors import ConfigError, ProcessError, SarcoError

Facts = Mapping[str, Any]

_PLAIN = ("ConfigError", "WeightsError", "ProtocolError", "ChainBroken", "ProcessError", "RunError")
"""Errors that are nothing but their words."""


def apart(work: str, facts: Facts, *, user: str = "") -> Any:
    """What a function makes of these facts, in a process of its own.

    Args:
        work: ``module:function`` of ours; it takes the facts by name.
        facts: whatever JSON can hold.
        user: account, or its number, that the work is done as; empty: this one. Another one needs root.

    Returns:
        What the function returned, as JSON gives it back.

    Raises:
        SarcoError: as the function raised it; of the same kind where that is nothing but its words.
        ConfigError: there is no such account.
        ProcessError: the account cannot run this Python, or the process ended without a word, as where memory is short.
    """
    if "torch" in sys.modules and not user:
        return json.loads(json.dumps(_found(work)(**facts)))
    command = [sys.executable, "-P", "-m", "sarco_models.apart", work]
    try:
        done = subprocess.run(  # noqa: S603 - our own words
            command, input=json.dumps(dict(facts)), stdout=subprocess.PIPE, text=True, check=False,
            env={**os.environ, **_our_code()}, **_account(user),
        )  # fmt: skip
    except OSError as error:
        who = f"account {user}" if user else "this account"
        raise ProcessError(
            f"{sys.executable}: {error.strerror} for {who}: install SARCO-FL and its Python where every account can "
            "run it, such as /opt/sarco"
        ) from None
    try:
        kind, value = json.loads(done.stdout)
    except ValueError:
        raise ProcessError(
            f"{work}: its process ended with status {done.returncode} and no result; "
            f"{'memory may be short: ' if done.returncode < 0 else 'what it said stands above: '}give the command again"
        ) from None
    if kind == "done":
        return value
    raised: type[SarcoError] = getattr(errors, kind) if kind in _PLAIN else SarcoError
    raise raised(value)


def main(work: str) -> None:
    """In the process: facts from stdin, one JSON value to stdout; all that is printed meanwhile goes to stderr."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        told = ["done", _found(work)(**json.load(sys.stdin))]
    except SarcoError as error:
        told = [type(error).__name__, str(error)]
    with answer:
        json.dump(told, answer)


def _found(work: str) -> Any:
    module, _, name = work.partition(":")
    return getattr(importlib.import_module(module), name)


def _account(user: str) -> dict[str, Any]:
    """With whose rights; an account's own group alone."""
    if not user:
        return {}
    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(f"there is no account {user}: make it with useradd --system {user}") from None
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": [], "cwd": "/"}


def _our_code() -> dict[str, str]:
    """Where this code is imported from, for a process that starts elsewhere; nothing where it is installed."""
    root = Path(__file__).resolve().parent.parent
    if "site-packages" in root.parts:
        return {}
    known = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != str(root)]
    return {"PYTHONPATH": os.pathsep.join([str(root), *known])}


if __name__ == "__main__":
    main(sys.argv[1])
