"""Privacy is charged before it is spent: to the hospital's ledger first, and that charge to the audit log."""

import hashlib
import math

from client.workspace import Site
from sarco_models.accounting import UNPROTECTED, Spend
from sarco_models.wire import Request


def charge(site: Site, request: Request, spend: Spend) -> None:
    """Charge every training participant, durably, or raise BudgetExceeded and leave the ledger as it was.

    Nothing is charged for a round that is over; what was charged under noise is finished, and kept, in any case.

    Raises:
        TooLate: nobody waits for this any more; nothing was charged.
    """
    site.wanted.check()
    charged = site.ledger.charge(
        study=request.study,
        round=getattr(request, "round", 0),
        task=type(request).__name__,
        people=site.persons,
        spend=spend,
        budget=site.budget,
        # A study without privacy was allowed as such (unprotected_training); the hospital's budget still counts it.
        max_study_epsilon=site.policy.max_epsilon if site.study.privacy else math.inf,
        promise=site.study.privacy,
    )
    site.wanted.paid = site.wanted.paid or spend.noise_multiplier > 0
    site.audit.spent(request, charged.head)


def charge_unprotected(site: Site, request: Request) -> None:
    """Charge exact sums or scores of training participants, where the study has no privacy.

    What a private study leaves outside its epsilon is said beside it, and permitted by the policy.
    """
    if site.study.privacy is None:
        charge(site, request, UNPROTECTED)


def fingerprint(site: Site) -> str:
    """Digest of who is in training: answers that are kept are about these people."""
    people = site.split.train
    words = "\n".join(f"{m} {i}" for m, i in zip(people.members.tolist(), people.ids, strict=True))
    return hashlib.sha256(words.encode()).hexdigest()
