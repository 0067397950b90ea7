"""What a hospital does when it is asked: policy first, then the work, and a coded refusal instead of an error text."""

import logging
import traceback
from pathlib import Path

import torch

from client.masked import close, keys, masked, reveal
from client.policy import Refusal, check, check_people
from client.probe import probe
from client.scoring import assess
from client.sums import describe, evaluate
from client.training_round import train
from client.workspace import Site
from sarco_models.errors import BudgetExceeded, ChainBroken, DataError, ProtocolError
from sarco_models.wire import (
    Assess,
    Code,
    Describe,
    Evaluate,
    Keys,
    Probe,
    Ready,
    Refused,
    Reply,
    Request,
    Reveal,
    Setup,
    Train,
)

log = logging.getLogger(__name__)


def handle(site: Site, request: Request) -> Reply:
    """Answer one request, and write down what came, what was decided and what leaves before it leaves.

    Errors leave as codes; what a hospital's log says of them names no file and no person. Where the audit log cannot be
    written, nothing is done and nothing leaves but a code.
    """
    try:
        site.audit.asked(request)
        reply = _answer(site, request)
        site.audit.answered(request, reply)
    except ChainBroken as error:
        log.error("nothing leaves: %s", error)
    except OSError as error:
        log.error("nothing leaves, for the audit log cannot be written: %s", place_of(error))
    else:
        return reply
    return Refused(site.name, Code.INTERNAL)


def _answer(site: Site, request: Request) -> Reply:
    try:
        _permit(site, request)
        torch.set_num_threads(site.threads)
        return _work(site, request)
    except Refusal as refusal:
        log.warning("refused: %s", refusal)
        code = refusal.code
    except BudgetExceeded as error:
        log.warning("refused: %s", error)
        code = Code.BUDGET_SPENT
    except ProtocolError as error:
        log.warning("bad request: %s", error)
        code = Code.BAD_REQUEST
    except DataError as error:
        rules = ", ".join(sorted({f.rule for f in error.findings}))
        log.error("%d faults in the site's data (%s): run sarco-site check-data", len(error.findings), rules)
        code = Code.DATA_FAULT
    except Exception as error:
        # The edge of the hospital: whatever went wrong, its text must not travel (FLOWER 1.3, PHI leak); it may hold
        # a file name or a value, so the log too gets no more than the kind of error and the line of code.
        log.error("the request failed: %s", place_of(error))
        code = Code.INTERNAL
    site.audit.refused(request, code)
    return Refused(site.name, code)


def _permit(site: Site, request: Request) -> None:
    """Raise :class:`Refusal` unless the hospital allows this request of these people; what it allows is on the disk."""
    people = site.split.train
    check(request, site.policy, site.study, site.no_approval)
    check_people(training=len(people), positive=int(people.labels.sum()), policy=site.policy, study=site.study)
    site.audit.allowed(request)


def place_of(error: Exception) -> str:
    """The kind of an error and the line of code that raised it, without its text."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} in {Path(frames[-1].filename).name}, line {frames[-1].lineno}"


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
        case Probe():
            return probe(site, request)
        case _:
            raise Refusal(Code.TASK_NOT_ALLOWED, f"{type(request).__name__} is not answered by this version")
