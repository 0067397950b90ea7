"""A hospital's budget in words: what was spent, what is left, and what no figure of a ledger covers."""

from __future__ import annotations

import math

from client.budget_figures import Summary, counted
from client.ledger import BudgetConfig
from sarco_models.uncovered import odds

NOT_COVERED = (
    "That this hospital takes part, how many participants it has and trains on, and its numbers of images: exact.",
    "Validation and test participants: metrics of them are sent as they are, where the policy lets them out.",
    "The leakage probe of a released model: two numbers on people who were trained on, without noise, once in a study.",
    "What is true of people like a participant. A model may learn that weak legs go with age; epsilon limits what it "
    "learns from one person's having been there.",
    "Several people at once: of a group of k relatives or twins, the bound is k times as weak.",
    "What another hospital spends on somebody who is a participant there as well: the two do not know of each other.",
    "Training without differential privacy: no epsilon describes it, and the page says where it happened.",
)
"""What no figure of a ledger covers; a study's own page says more, study by study."""

_UNPROTECTED = (
    "Models or sums without protection have left this hospital: nothing limits mathematically what they tell of the "
    "participants that they were made from. A budget with a number refuses everything for these people."
)
_IN_DOUBT = (
    "may be people whom the ledger knows under another name, and are charged with what those had spent. If they are "
    "new people: sarco-site budget SITE.toml --new-participants"
)


def lines(found: Summary) -> list[str]:
    """The summary as a person reads it on a terminal."""
    mark = "SYNTHETIC  " if found.synthetic else ""
    said = [f"{mark}{found.site}: privacy spent, by the ledger", ""]
    said += [f"{label:8}{words}" if label else words for label, words in figures(found)]
    for study in found.studies:
        said += ["", study.name]
        said.append(f"    {spent_words(study.epsilon)}; {counted(study.people, 'participant')}; {study.when}")
        said += [f"    {part.words}: {part.facts}" for part in study.parts]
    if found.changes:
        said += ["", "People", *(f"    {change}" for change in found.changes)]
    said += ["", "What this does not cover", *(f"  - {sentence}" for sentence in NOT_COVERED)]
    return [*said, "", f"every row of the ledger was checked; its head is {found.head}"]


def figures(found: Summary) -> list[tuple[str, str]]:
    """Spent, left, the limits and what they mean: a word and a sentence each; what follows has no word."""
    what = "were in it" if math.isinf(found.epsilon) else "have spent the most"
    most = f"{counted(found.worst_people, 'participant')} of {found.people:,} who were charged {what}"
    said = [("spent", f"{spent_words(found.epsilon)}; {most}" if found.people else "nothing, on nobody")]
    said += limits(found.budget, found.epsilon)
    if math.isinf(found.epsilon):
        said.append(("", _UNPROTECTED))
    elif found.epsilon:
        said.append(("", odds(found.epsilon, found.budget.delta, "one participant")))
    if found.in_doubt:
        said.append(("", f"{counted(found.in_doubt, 'participant')} {_IN_DOUBT}"))
    return said


def limits(budget: BudgetConfig, spent: float = 0.0) -> list[tuple[str, str]]:
    """What is left in a lifetime, and the hospital's limits."""
    left = "no limit" if math.isinf(budget.lifetime) else f"epsilon {max(budget.lifetime - spent, 0.0):.3f}"
    if math.isinf(spent) and not math.isinf(budget.lifetime):
        left = "nothing, for those who were trained on without protection"
    lifetime, one = _limit_words(budget.lifetime), _limit_words(budget.one_study)
    how = f"at delta {budget.delta:g}, accountant {budget.accountant} (site.toml [budget])"
    return [("left", left), ("limits", f"{lifetime} in a lifetime, {one} in one study; {how}")]


def spent_words(epsilon: float) -> str:
    """An epsilon as people read it."""
    return "without protection: no epsilon holds" if math.isinf(epsilon) else f"epsilon {epsilon:.3f}"


def _limit_words(limit: float) -> str:
    return "no limit" if math.isinf(limit) else f"epsilon {limit:g}"
