"""The page of a preview: what matters first, then every piece of every reply, its price, and two attacks on it.

One self-contained file that loads nothing. It may show one participant's image and table row, computed back: it says on
top that it stays inside the hospital.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from client.budget_figures import counted
from client.preview.layout import CSS, HTML
from client.preview.look import Preview
from client.preview.one_round import Answer
from client.preview.permission import withheld
from client.preview.shown_attacks import attacks
from client.preview.shown_price import price
from client.preview.shown_replies import detail, piece_name, replies
from client.preview.tables import Row, Table, epsilon_words, sentence, size
from client.preview.words import NUMBERS
from client.quality.page import version
from client.quality.titles import rule_name
from sarco_models.uncovered import odds

_PARTS = {
    "short": "In short", "today": "Your policy today", "leaves": "What would leave", "price": "Price in privacy",
    "attacks": "Attacked", "words": "What the numbers mean", "about": "About this page",
}  # fmt: skip


def page(found: Preview) -> str:
    """The preview as one HTML page."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    keys = _keys(found)
    text = environment.from_string(
        HTML
    ).render(
        policy=_content_policy(CSS),
        css=Markup(CSS),  # noqa: S704 - our own constant
        site=found.config.name,
        title=found.study.title,
        synthetic=found.synthetic,
        keep=_keep(found),
        verdict=_verdict(found, len(keys.rows)),
        counts=_counts(found),
        parts=_PARTS,
        short=_short(found),
        keys=keys,
        stays=_stays(found),
        replies=replies(found),
        details=[detail(a, found) for a in found.answers],
        price=price(found),
        attacks=attacks(found),
        numbers=NUMBERS,
        about=_about(found),
        version=version(),
        seconds=f"{found.seconds:.0f}",
        digest=found.study.digest[:12],
    )
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


# ---- what is read first ----------------------------------------------------------------------------------------------


def _keep(found: Preview) -> str:
    if found.inverted is None:
        return "It holds your own numbers, and nobody's image."
    what = "the image and the table row" if found.inverted.truth is not None else "the table row"
    return f"It shows {what} of one participant. To leave that out, write it with --no-image."


def _verdict(found: Preview, keys: int) -> dict[str, Any]:
    refused = [a for a in found.answers if a.refused]
    price = _price_in_brief(found)
    lines = [price, *found.notes]
    rounds = found.study.federation.rounds
    if refused or found.cost.above:
        title = "Part of this study would be refused today"
        if _nothing_leaves(refused, found):
            title = "Nothing of this study would leave today"
        elif 0 < found.rounds_left < rounds:
            title = f"This study would stop after round {found.rounds_left} of {rounds}: budget"
        elif not refused:
            title = "It would run here if no round is repeated: budget"
        kept = counted(keys, "setting keeps", "settings keep")
        if found.rounds_left < rounds:  # said as well where an approval is all that is missing otherwise
            why = found.cost.refused["Train"][1]
            lines.insert(0, f"Your ledger would refuse round {found.rounds_left + 1} of {rounds}: {why}.")
        what = f"{kept} it, or a part of it, here. Below is what would leave if you allowed it."
        step = "read what would leave and what it costs; change the keys that you agree with, then run this again."
        return {"kind": "cannot-check", "title": title, "lines": [what, *lines], "next": step}
    return {
        "kind": "may-join" if found.study.privacy else "errors",
        "title": f"{size(found.bytes_a_round)} would leave in each round",
        "lines": lines,
        "next": "keep this page with your records; sarco-site audit show tells later what really left.",
    }


def _nothing_leaves(refused: Sequence[Answer], found: Preview) -> bool:
    """Whoever has not described itself is asked nothing further."""
    return len(refused) == len(found.answers) or "Describe" in [a.request for a in refused]


def _price_in_brief(found: Preview) -> str:
    cost = found.cost
    if math.isinf(cost.whole):
        return (
            "This study trains WITHOUT differential privacy: no mathematical limit holds for what the model betrays of "
            "your participants."
        )
    left = "no lifetime limit" if math.isinf(cost.budget.lifetime) else f"{cost.left:.2f} would be left"
    return (
        f"It would spend epsilon {cost.whole:.2f} of each training participant ({cost.people} people) at delta "
        f"{cost.budget.delta:g}; {cost.spent:.2f} is spent so far, {left}."
    )


def _counts(found: Preview) -> list[dict[str, Any]]:
    rounds, cost = found.study.federation.rounds, found.cost
    limit = "unlimited" if math.isinf(cost.budget.lifetime) else f"{cost.budget.lifetime:g}"
    worst = [m for m in found.membership if m.found is not None]
    area = worst[-1].found.auc if worst and worst[-1].found else None
    return [
        {"what": "leaves in each round", "number": size(found.bytes_a_round), "unit": "",
         "below": [f"{found.numbers:,} parameters and a few counts"]},
        {"what": "leaves in the whole study", "number": size(found.bytes_in_all), "unit": "",
         "below": [counted(rounds, "round")]},
        {"what": "epsilon of the whole study", "number": epsilon_words(cost.whole), "unit": "",
         "below": [f"one round {epsilon_words(cost.one_round)}"]},
        {"what": "spent so far, all studies", "number": epsilon_words(cost.spent), "unit": f"of {limit}",
         "below": [f"afterwards {epsilon_words(cost.after)}"]},
        {"what": "attack: who was trained on?", "number": f"{area.value:.2f}" if area else "–", "unit": "AUC",
         "below": [f"95 % {area.low:.2f} to {area.high:.2f}; .5 is a coin" if area else "too few people to measure"]},
    ]  # fmt: skip


def _short(found: Preview) -> list[str]:
    study, d = found.study, found.described
    shown = [p for a in found.answers if a.request == "Train" for p in a.pieces if p.part.kind == "parameter"]
    what = "images and tables" if study.uses_images and study.inputs else "images" if study.uses_images else "tables"
    back = f"{len(shown)} tensors of changed numbers go" if shown else "one vector of changed numbers under masks goes"
    rounds = study.federation.rounds
    times = f"once, and {back} back" if rounds == 1 else f"{rounds} times, and {back} back each time"
    learns = (
        f"A model learns from images and drawn outlines of {d.training} of your {d.participants} participants where "
        "muscles are"
        if study.segments
        else f"A model learns from {what} of {d.training} of your {d.participants} participants who has "
        f"{study.label.condition}"
    )
    lines = [
        f"{learns}. It comes to you {times}.",
        f"Beside it {_beside(found)}: every one is listed below.",
        f"No image, {'no outline' if study.segments else 'no row of a table'}, no identifier and no file name leaves.",
    ]
    if study.privacy:
        lines.append(odds(found.cost.whole, found.cost.budget.delta, "one of your training participants"))
    else:
        lines.append("There is no differential privacy: what the numbers betray is limited by nothing but luck.")
    seen = (
        "The coordinator would see the sum of all hospitals' updates only: yours travels under masks."
        if study.federation.secure_aggregation
        else "The coordinator would see your own update in every round: there is no secure aggregation."
    )
    return [*lines, seen]


def _beside(found: Preview) -> str:
    """What goes beside the parameters, by the replies as they were made."""
    leaving = {f"{a.request}.{p.part.name}" for a in found.answers for p in a.pieces if not p.stays}
    kinds = {
        "sums over columns": "Describe.moments.total" in leaving and bool(found.described.moments.count.any()),
        "metrics": any(".metrics." in name for name in leaving),
        "sums of the shapes of drawn muscles": any(".log_" in name for name in leaving),
        "a histogram of scores": any(name.startswith("Evaluate.histogram") for name in leaving),
        "what was measured of the model's outlines": any(name.startswith("Measure.metrics") for name in leaving),
        "your assessment of the model": any(name.startswith("Assess.evaluation") for name in leaving),
        "how well training participants can be told from others": "Probe.auc" in leaving,
    }
    *most, last = ["counts of people", *(words for words, goes in kinds.items() if goes)]
    return f"go {', '.join(most)} and {last}" if most else f"go {last}"


# ---- policy ----------------------------------------------------------------------------------------------------------


def _keys(found: Preview) -> Table:
    rows = [Row((piece_name(m.key), m.write, sentence(m.why))) for m in found.keys]
    named = {m.key for m in found.keys}
    rows += [
        Row((piece_name(key), _at_least(needed), "With what the ledger holds, this study would pass the limit."))
        for key, needed in found.cost.above.items()
        if key not in named
    ]
    return Table((("Key of site.toml", "name"), ("It would have to say", ""), ("Because", "")), tuple(rows))


def _at_least(needed: float) -> str:
    return '"unlimited"' if math.isinf(needed) else f"{math.ceil(100 * needed - 1e-9) / 100:g} or more"


def _stays(found: Preview) -> Table:
    kept = [
        (a.request, _of_all_muscles(p.part.name), p.stays)
        for a in found.answers
        for p in a.pieces
        if p.stays and p.part.name.rpartition(".")[2] not in ("total", "squares", "smallest", "largest", "ends")
    ]
    rows = [Row((request, piece_name(name), why)) for request, name, why in dict.fromkeys(kept)]
    return Table((("Request", ""), ("Piece", "name"), ("Why it stays", "")), tuple(rows))


def _of_all_muscles(name: str) -> str:
    """A piece's name without the muscle and the number, where it is one of many: ``metrics.MUSCLE.dice.n``."""
    parts = name.split(".")
    return f"metrics.MUSCLE.{parts[2]}" if parts[0] == "metrics" and len(parts) == 4 else name


# ---- the rest --------------------------------------------------------------------------------------------------------


def _about(found: Preview) -> Sequence[str]:
    study = found.study
    final = f"the final model is that of round 1 of {study.federation.rounds}"
    lines = [
        "One round was run with the code that would answer the coordinator, in a scratch folder: your ledger, audit "
        "log and approvals were read and not changed, and no connection was opened.",
        f"{final.capitalize()}." if study.segments else f"{_stand_ins(found)}, and {final}.",
    ]
    if not study.segments:
        lines.append(f"Labels were made by {rule_name(found.described.label_rule)}.")
    if study.federation.secure_aggregation:
        lines.append("Under the masks two hospitals were made up, with keys of their own; their updates do not exist.")
    return lines


def _stand_ins(found: Preview) -> str:
    if withheld(found.study):
        return (
            "Statistics are withheld: the tables are scaled by the study's ranges, there is no threshold, no assessment"
        )
    return (
        "The threshold of the assessment is a stand-in (.5), the scaling of the tables is that of your hospital alone"
    )


def _content_policy(style: str) -> str:
    """What a browser may load: the page's own style and pictures."""
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    return f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
