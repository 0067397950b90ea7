"""What a study would cost in privacy, and what no epsilon covers, as the page shows it."""

from __future__ import annotations

import math
from typing import Any

from markupsafe import Markup

from client.preview.drawings import Ends, scale
from client.preview.look import Preview
from client.preview.tables import Row, Table, epsilon_words
from sarco_models.uncovered import odds, uncovered


def price(found: Preview) -> dict[str, Any]:
    """Words, drawing and table."""
    cost, cfg = found.cost, found.study.privacy
    if cfg is None:
        words = [
            "None is kept: this study trains without differential privacy, so that its epsilon is without limit. Your "
            "ledger would say so of each of your training participants, for good: any later limit that is a number "
            "would then refuse every further study on them."
        ]
    else:
        words = [odds(cost.whole, cost.budget.delta, "one of your training participants"), _promise(found)]
    if cost.in_doubt:
        words.append(
            f"{cost.in_doubt} of {cost.people} people are new in your tables and may be somebody known under another "
            "name: they are counted as the worst of those known (sarco-site budget SITE.toml --new-participants)."
        )
    return {
        "words": words,
        "drawing": Markup()
        if cfg is None
        else scale(Ends(cost.spent, cost.after_round, cost.after, found.cost.budget.lifetime)),
        "table": _price_table(found),
        "heading": "What this epsilon does not cover" if cfg else "What leaves as it is",
        "uncovered": uncovered(found.study),
    }


def _promise(found: Preview) -> str:
    cfg = found.study.privacy
    assert cfg is not None  # noqa: S101
    own = found.cost.budget
    return (
        f"The study promises epsilon {cfg.epsilon:g} at its delta {cfg.delta:g} ({cfg.accountant}); your ledger counts "
        f"at your own delta {own.delta:g} ({own.accountant}). The noise follows from the promise and cannot be set. "
        "Epsilons do not add up: they are computed from all rounds together."
    )


def _price_table(found: Preview) -> Table:
    cost = found.cost
    limit = cost.budget.lifetime

    def left(after: float) -> str:
        if math.isinf(limit):
            return "no limit"
        return "nothing" if after > limit else f"{limit - after:.2f}"

    rows = [
        ("spent so far, all studies, worst person", cost.spent),
        ("after one round of this study", cost.after_round),
        ("after the whole study", cost.after),
    ]
    lines = [Row((name, epsilon_words(value), left(value)), value > limit) for name, value in rows]
    limits = [
        ("limit of a lifetime (budget.lifetime_epsilon)", limit),
        ("limit of one study (budget.study_epsilon)", cost.budget.one_study),
        ("limit of one study (policy.max_epsilon)", cost.policy_limit),
    ]
    lines += [Row((name, epsilon_words(value), "")) for name, value in limits]
    return Table((("", "name"), ("Epsilon", "num"), ("Left of a lifetime", "num")), tuple(lines))
