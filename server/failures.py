"""Why a site's contribution is missing, in plain words, with what to do: one table for records, status and dashboard.

Records hold short reasons that never change (``refused: budget_spent``, ``Flower error 5``); :func:`in_words` says them
to a person. What a reply was found to be wrong in is a sentence already (:mod:`server.replies`).
"""

from sarco_models.messages import Code

NO_ANSWER = "no answer before the deadline"
AWAY = "away"
"""Not connected, and nobody knows more."""
REVOKED, LEFT = "revoked on ", "left on "
_ASKED = ", when it had been asked"
NOT_AWAITED = "its answer was not waited for: too few hospitals may take part"
REFUSED = "refused: "
FLOWER = "Flower error "

_CODES: dict[Code, str] = {
    Code.STUDY_NOT_APPROVED: "the hospital has not approved this study: it runs sarco-site approve",
    Code.TASK_NOT_ALLOWED: "the hospital's policy does not allow this task: it adds the task to site.toml [policy]",
    Code.TOO_FEW_PARTICIPANTS: "the hospital has fewer participants than it, or the study, asks for",
    Code.ONE_CLASS_ONLY: "all of the hospital's training participants have the same label",
    Code.DATA_FAULT: "the hospital's files have faults: it runs sarco-site check-data",
    Code.SETUP_NEEDED: "the hospital has lost the run's setup; it is sent again by itself",
    Code.MODEL_NEEDED: "the hospital does not hold the last round's model any more; it is sent whole by itself",
    Code.ALREADY_ASSESSED: "the hospital has answered for another model of this study, and answers for one only",
    Code.ALREADY_REVEALED: "the hospital has opened a sum of this round over other sites, and opens no second one",
    Code.BUDGET_SPENT: "the hospital's privacy budget is spent: it raises site.toml [budget], or takes no further part",
    Code.NOT_PRIVATE_ENOUGH: "the study's noise would not hold there, or is less than the hospital asks for",
    Code.NOT_MASKED: "the hospital sends updates under secure aggregation only",
    Code.TOO_FEW_SITES: "fewer sites take part than the hospital asks for",
    Code.KEYS_NOT_TRUSTED: "another site's key is not the one that the hospital was enrolled with: compare the kits",
    Code.UPDATE_TOO_LARGE: "the update does not fit the study's update_range",
    Code.TOO_LATE: "the work was not done before the deadline; the site is free for the next round",
    Code.WORKER_DOWN: "the hospital's worker does not answer: it runs sarco-site status",
    Code.BAD_REQUEST: "the hospital cannot read the request: do both sides run the same version?",
    Code.INTERNAL: "something failed at the hospital: its own log says what, for instance a full disk",
}

_FLOWER: dict[int, str] = {
    0: "Flower does not say why",
    1: "Flower's relay at the hospital could not be loaded: do both sides run the same version?",
    2: "Flower's relay at the hospital failed: its own log says why",
    3: "the message was lost on the way, or came after the deadline",
    4: "the answer was lost on the way, or came after the deadline",
    5: "the hospital's connection is gone: it comes back by itself, or the hospital runs sarco-site join",
    6: "Flower's relay at the hospital refused the message",
    7: "the hospital's Flower refused the app: do both sides run the same version?",
    8: "Flower's relay at the hospital died: it is started again at the next message",
}

_PLAIN = {
    NO_ANSWER: "no answer before the deadline: the site is slow, frozen or cut off; the next round asks it again",
    AWAY: "not connected: the hospital runs sarco-site join; it takes part again as soon as it is back",
}

_GONE = {
    REVOKED: "it takes no further part; to come back it makes a new key (docs/how-to/join-as-a-hospital.md, Coming "
    "back) and is enrolled again",
    LEFT: "the hospital runs sarco-site join when it wants to take part again",
}

LOST = frozenset({3, 4, 5, 8})
"""Flower errors of the way, not of the site: the same message may be sent again."""


def refused(code: Code) -> str:
    """The short reason of a refusal."""
    return f"{REFUSED}{code}"


def revoked(when: str) -> str:
    """The short reason of a hospital that the coordinator has shut out; ``when`` in ISO 8601."""
    return f"{REVOKED}{when[:10]} by the coordinator"


def left(when: str) -> str:
    """The short reason of a hospital that has ended its connection by itself; ``when`` in ISO 8601, UTC."""
    return f"{LEFT}{when[:10]} at {when[11:16]} UTC"


def when_asked(reason: str) -> str:
    """That a hospital went, or was shut out, with a question: it may have worked on it, and spent privacy."""
    return reason if reason.endswith(_ASKED) else reason + _ASKED


def gone(reason: str) -> bool:
    """Whether a hospital was revoked or has left, before it was asked or after."""
    return reason.startswith((REVOKED, LEFT))


def not_there(reason: str) -> bool:
    """Whether a hospital was not connected, and was asked nothing."""
    return reason == AWAY or (gone(reason) and not reason.endswith(_ASKED))


def state_of(reason: str) -> str:
    """What a failure is called in live.json: away, refused or failed."""
    return "away" if not_there(reason) else "refused" if reason.startswith(REFUSED) else "failed"


def flower_error(number: int) -> str:
    """The short reason of an error that Flower reports."""
    return f"{FLOWER}{number}"


def in_words(reason: str) -> str:
    """A recorded reason, to be read by a person; one that is a sentence already is left as it is."""
    if reason.startswith(REFUSED) and reason.removeprefix(REFUSED) in list(Code):
        return f"refused: {_CODES[Code(reason.removeprefix(REFUSED))]}"
    number = reason.removeprefix(FLOWER)
    if reason.startswith(FLOWER) and number.isdigit():
        return _FLOWER.get(int(number), f"Flower error {number}")
    way_out = next((words for begin, words in _GONE.items() if reason.startswith(begin)), "")
    if way_out and ": " not in reason:
        return f"{reason}: {way_out}"
    return _PLAIN.get(reason, reason)
