"""One answer to whatever comes, and nothing but that: a reply of the protocol or a code, never the text of an error.

The edge of the hospital, the same in its own worker and in a simulation. An exception that passed it would travel to
the server with its text, which may hold a file name or a value.
"""

import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sarco_models.errors import ChainBroken, ConfigError, DataError, ProtocolError, SarcoError
from sarco_models.wire import Code, Refused, Reply, Request

if TYPE_CHECKING:  # a relay imports this module for every message, and must not wait for torch
    from client.workspace import Site

log = logging.getLogger(__name__)


def answer(
    site_of: Callable[[], "Site"], read: Callable[[], object], handle: Callable[["Site", Request], Reply]
) -> tuple[Reply, str]:
    """Reply, and the head of the audit log that it is written down in; empty where there is no site to write it.

    Args:
        site_of: opens the site, or gives the open one.
        read: the message, as it is read where it came in.
        handle: answers a request, see :func:`client.tasks.handle`.
    """
    try:
        site = site_of()
        reply = _answer(site, read, handle)
        return reply, site.audit.head
    except SarcoError as error:
        # A wrong site.toml may be named in the hospital's log; a fault of the data holds file names and values.
        told = isinstance(error, ConfigError | ChainBroken)
        log.error("the site cannot answer: %s", error if told else type(error).__name__)
        return Refused("", Code.DATA_FAULT if isinstance(error, DataError) else Code.INTERNAL), ""
    except Exception as error:
        log.error("the site cannot answer: %s", place_of(error))
        return Refused("", Code.INTERNAL), ""


def _answer(site: "Site", read: Callable[[], object], handle: Callable[["Site", Request], Reply]) -> Reply:
    try:
        request = read()
        if not isinstance(request, Request):
            raise ProtocolError(f"{type(request).__name__} is no request")
    except Exception as error:  # whatever was made to break the reading is no request either
        log.warning("bad request: %s", error if isinstance(error, ProtocolError) else place_of(error))
        site.audit.unreadable()
        return Refused(site.name, Code.BAD_REQUEST)
    return handle(site, request)


def place_of(error: Exception) -> str:
    """The kind of an error and the line of code that raised it, without its text."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"
