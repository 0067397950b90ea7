"""What a hospital does when it is asked: policy first, then the work, and a coded refusal instead of an error text."""

import logging
import struct

import torch

from client.answering import place_of
from client.masked import close, keys, masked, reveal
from client.policy import Refusal, check, check_people
from client.probe import probe
from client.scoring import assess, measure
from client.sums import describe, evaluate
from client.training_round import train
from client.wanted import TooLate, Wanted
from client.workspace import Site
from sarco_models.errors import BudgetExceeded, ChainBroken, DataError, ProtocolError
from sarco_models.model_down import whole
from sarco_models.wire import (
    Assess,
    Code,
    Describe,
    Evaluate,
    Keys,
    Measure,
    Probe,
    Ready,
    Refused,
    Reply,
    Request,
    Reveal,
    Setup,
    Train,
    TrainOn,
)

log = logging.getLogger(__name__)


def handle(site: Site, request: Request, wanted: Wanted | None = None) -> Reply:
    """Answer one request, and write down what came, what was decided and what leaves before it leaves.

    With ``wanted``, work that nobody waits for any more is given up, see :mod:`client.wanted`.

    Errors leave as codes; what a hospital's log says of them names no file and no person. Where the audit log cannot be
    written, nothing is done and nothing leaves but a code.
    """
    site.wanted = wanted or Wanted()
    try:
        if not _written_down(site, request):
            return Refused(site.name, Code.BAD_REQUEST)
        reply = _answer(site, request)
        site.audit.answered(request, reply)
    except ChainBroken as error:
        log.error("nothing leaves: %s", error)
    except OSError as error:
        log.error("nothing leaves, for the audit log cannot be written: %s", place_of(error))
    else:
        return reply
    return Refused(site.name, Code.INTERNAL)


def _written_down(site: Site, request: Request) -> bool:
    """Whether what came could be written down as a request; otherwise it is written down that something came."""
    try:
        site.audit.asked(request)
    except (struct.error, ValueError, OverflowError) as error:  # a number or a text that no machine can hold
        log.warning("%s: bad request: %s", site.name, place_of(error))
        site.audit.unreadable()
        return False
    return True


def _answer(site: Site, request: Request) -> Reply:
    try:
        site.wanted.check()
        request = _whole(site, request)
        _permit(site, request)
        if isinstance(request, Train) and site.study.federation.compression == "zstd":
            site.held = request.parameters
        torch.set_num_threads(site.threads)
        reply = _work(site, request)
        site.wanted.check_sending()
        return reply
    except TooLate:
        log.warning(
            "%s: given up: the time for %s is over, or whoever asked has gone", site.name, type(request).__name__
        )
        code = Code.TOO_LATE
    except Refusal as refusal:
        log.warning("%s: refused: %s", site.name, refusal)
        code = refusal.code
    except BudgetExceeded as error:
        log.warning("%s: refused: %s", site.name, error)
        code = Code.BUDGET_SPENT
    except ProtocolError as error:
        log.warning("%s: bad request: %s", site.name, error)
        code = Code.BAD_REQUEST
    except DataError as error:
        rules = ", ".join(sorted({f.rule for f in error.findings}))
        log.error(
            "%s: %d faults in the site's data (%s): run sarco-site check-data", site.name, len(error.findings), rules
        )
        code = Code.DATA_FAULT
    except Exception as error:
        # The edge of the hospital: whatever went wrong, its text must not travel (FLOWER 1.3, PHI leak); it may hold
        # a file name or a value, so the log too gets no more than the kind of error and the line of code.
        log.error("the request failed: %s", place_of(error))
        code = Code.INTERNAL
    site.audit.refused(request, code)
    return Refused(site.name, code)


def _whole(site: Site, request: Request) -> Request:
    """The request with its model in full, where it came as a difference to the one that is held here."""
    if not isinstance(request, TrainOn):
        return request
    found = whole(request, site.held) if site.held else None
    if found is None:
        raise Refusal(Code.MODEL_NEEDED, "the model that the round's builds on is not held: a new process, perhaps")
    return found


def _permit(site: Site, request: Request) -> None:
    """Raise :class:`Refusal` unless the hospital allows this request of these people; what it allows is on the disk."""
    people = site.split.train
    check(request, site.policy, site.study, site.no_approval)
    check_people(training=len(people), positive=int(people.labels.sum()), policy=site.policy, study=site.study)
    site.audit.allowed(request)


def _work(site: Site, request: Request) -> Reply:  # noqa: C901, PLR0911 - one case for each request
    match request:
        case Describe():
            return describe(site, request)
        case Setup():
            site.keep(request)
            return Ready(site.name, request.digest)
        case Train():
            return masked(site, request, train) if request.masking else train(site, request)
        case Keys():
            return keys(site, request)
        case Reveal():
            return reveal(site, request)
        case Evaluate():
            close(site, request.study)
            return evaluate(site, request)
        case Assess():
            return assess(site, request)
        case Measure():
            return measure(site, request)
        case Probe():
            return probe(site, request)
        case _:
            raise Refusal(Code.TASK_NOT_ALLOWED, f"{type(request).__name__} is not answered by this version")
