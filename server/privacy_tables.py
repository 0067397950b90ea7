"""How private each way of training was, in tables of a report: epsilons by whom they protect, and what was measured.

An epsilon that protects a participant and one that protects a hospital never stand in one column
(:class:`server.guarantees.UnitTable`). A way of training without protection has its line all the same.
"""

from __future__ import annotations

from server.arms import place_name
from server.guarantees import ABSENT, Guarantee, tables
from server.leakage import STEPS, SiteLeakage
from server.results import Results
from server.tables import Cell, Table, TableRow, number, texts

CAPTIONS = {
    "participant": "What protects each participant, with all that a study does with one person. Epsilon is recomputed "
    "from the rounds that were run; the smaller, the better protected. Those of several mechanisms do not add up.",
    "hospital": "What protects each hospital as a whole: another promise, never to be compared with a participant's.",
}
HEAD = (
    "Way of training", "Mechanism", "Epsilon", "Delta", "Accountant", "Noise multi­plier", "Clip", "Sample rate",
    "Steps a round", "Rounds",
)  # fmt: skip
UNPROTECTED = "none: no mathematical limit"


def guarantees(results: Results) -> list[tuple[str, Guarantee]]:
    """Every arm's guarantees, of the seed that spent most."""
    return [(results.arm_name(arm), g) for arm in _described(results) for g in _worst(results, arm)]


def _worst(results: Results, arm: str) -> list[Guarantee]:
    of_seeds = [f.privacy.read() for f in results.arm_facts(arm) if f.privacy]
    if not of_seeds or not all(of_seeds):
        return []
    return max(of_seeds, key=lambda of_seed: max(g.epsilon for g in of_seed))


def protection(results: Results) -> list[Table]:
    """A table for each unit that occurs; arms without any protection stand with the participants'."""
    rows: dict[str, list[TableRow]] = {"participant": [], "hospital": []}
    for arm in _described(results):
        if not any(f.privacy for f in results.arm_facts(arm)):
            continue  # it was run before this was written down
        name, found = results.arm_name(arm), _worst(results, arm)
        for table in tables((name, g) for g in found):
            rows[table.unit] += [TableRow(texts(*cells)) for cells in table.cells()]
        if not found:
            rows["participant"].append(TableRow(texts(name, UNPROTECTED, "unlimited", *[ABSENT] * (len(HEAD) - 3))))
    return [Table(CAPTIONS[unit], HEAD, tuple(lines), text=(1,)) for unit, lines in rows.items() if lines]


def uncovered(results: Results) -> list[str]:
    """What no epsilon of these arms covers, each said once."""
    facts = [f.privacy for arm in _described(results) for f in results.arm_facts(arm) if f.privacy]
    return list(dict.fromkeys(line for found in facts for line in found.uncovered))


def leakage(results: Results) -> Table:
    """What the hospitals measured of each arm's model, at the hospital where it leaks most; of the worst seed."""
    rows = []
    for arm in _described(results):
        of_seeds = [(SiteLeakage(**found), site) for f in results.arm_facts(arm) for site, found in f.leakage.items()]
        if not of_seeds:
            continue
        worst, site = max(of_seeds, key=lambda found: found[0].auc)
        area = Cell(number(worst.auc, 3), (f"{number(worst.auc_low, 3)} to {number(worst.auc_high, 3)}",))
        share = Cell(f"{100 * worst.tpr:.0f} %", (f"{100 * worst.tpr_low:.0f} to {100 * worst.tpr_high:.0f}",))
        rest = texts(f"{100 * worst.fpr:.2g} %", f"{worst.members} / {worst.others}", str(len(of_seeds)))
        rows.append(TableRow((Cell(results.arm_name(arm)), Cell(place_name(site)), area, share, *rest)))
    head = ("Way of training", "Worst at", "Membership AUC", "Members found", "False alarms", "Members / others")
    caption = (
        "Membership inference by the hospitals on their own people (Yeom et al. 2018), where it succeeds best, with "
        "95 % intervals: .5 is a coin. The last column counts the hospitals, over all seeds, that this is the worst of."
    )
    if any(_worst(results, arm) for arm in _described(results) if any(f.leakage for f in results.arm_facts(arm))):
        caption += f" {STEPS}"
    return Table(caption, (*head, "Measured"), tuple(rows), text=(1,))


def _described(results: Results) -> list[str]:
    """Arms of which the run says what they did, in the report's order."""
    known = [arm for arm in results.meta.arms if results.arm_facts(arm)]
    return [arm for arm in results.arms if arm in known] + [arm for arm in known if arm not in results.arms]
