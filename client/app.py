"""The Flower ClientApp of a site: it carries what was asked to the hospital's own worker, and the answer back.

Flower runs, for every message and in a process of its own, whatever code the coordinator ships. So this code, and any
other in its place, is trusted with nothing: the data, the policy, the ledger and the keys are the worker's
(:mod:`client.worker`), behind a socket. Nothing but a reply of the protocol or a code goes back; an exception would
travel to the coordinator with its text. In a simulation there is no worker, and the site answers inside.
"""

import logging
import time
from pathlib import Path

from flwr.app import Context, Message

from client.answering import place_of
from client.flower_app import app_of
from client.worker_line import Line, WorkerAway, WorkerLate
from sarco_models import wire
from sarco_models.errors import ProtocolError
from sarco_models.framing import Buffer
from sarco_models.wire import Code, Refused, Reply

log = logging.getLogger(__name__)

WORKER = "worker"
"""Key of the node config: path of the worker's socket."""

_BACK_S, _BACK_SHARE = 2.0, 0.05
"""Of a message's life this is kept for the way back: seconds, and a share of a short life."""


def answer_here(message: Message, context: Context) -> tuple[Reply, str]:
    """Ask the worker whose socket the node config names; without one, answer in this process (simulation)."""
    try:
        socket = context.node_config.get(WORKER)
        if socket:
            return relay(message, Path(str(socket)))
        from client.inside import answer_inside

        return answer_inside(message, context)
    except Exception as error:
        log.error("no answer: %s", place_of(error))
        return Refused("", Code.INTERNAL), ""


def relay(message: Message, socket: Path) -> tuple[Reply, str]:
    """Carry a message to the worker and its answer back, within the message's life."""
    try:
        return wire.reply_from_bytes(Line(socket).ask(_asked(message), seconds_left(message)))
    except WorkerAway:
        log.error("the worker cannot be reached: is it running? sarco-site status says")
        return Refused("", Code.WORKER_DOWN), ""
    except WorkerLate:
        log.error("the worker did not answer within the message's life")
        return Refused("", Code.TOO_LATE), ""
    except ProtocolError as error:
        log.error("what the worker sent is not passed on: %s", error)
        return Refused("", Code.INTERNAL), ""


def _asked(message: Message) -> list[Buffer]:
    """The request as the worker reads it; nothing where it is none, so that the worker writes that down."""
    try:
        return wire.to_buffers(wire.decode(message.content))
    except Exception as error:
        log.warning("bad request: %s", error if isinstance(error, ProtocolError) else place_of(error))
        return []


def seconds_left(message: Message) -> float:
    """How long the worker may take: what is left of the message's life, less the way back."""
    left = message.metadata.created_at + message.metadata.ttl - time.time()
    return left - min(_BACK_S, _BACK_SHARE * message.metadata.ttl)


app = app_of(answer_here)
