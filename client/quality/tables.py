"""participants.csv as a whole: units, outliers, contradictions, gaps, copies, leaks, and labels against their rule.

Everything here is for a person to look up and correct; nothing is altered. The faults of single cells (no number,
outside the plausible range) are the schema's and are not repeated.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from client.quality.columns import finding, in_table, listed, numbers, people, texts, written
from client.quality.combinations import combination_findings
from client.quality.completeness import completeness_findings
from client.quality.leakage import leakage_findings
from client.quality.values import value_findings
from client.site_folder import UNKNOWN_RULE
from sarco_models.config import StudyConfig
from sarco_models.errors import Finding
from sarco_models.label_rules import DEVICE, RULES, Decisions, LabelRule, Parts, apply, device_code
from sarco_models.schema import ParticipantTable, design_columns

FEWEST_FOR_A_RULE = 10  # people a rule must decide before it is called a better fit, or labels inverted
BETTER = 0.05  # agreement by which another rule must beat the stated one to be named
LIKELY = 0.9  # agreement from which a rule is named although the stated one cannot be checked
INVERTED = 0.9  # share of labels that are the opposite of what the rule says


def table_findings(table: ParticipantTable, study: StudyConfig, label_rule: str | None = None) -> tuple[Finding, ...]:
    """Everything that the table of participants shows beyond the faults of its cells.

    Args:
        table: as examined.
        study: that it is for.
        label_rule: how this site's labels were made; None = by the study's rule.
    """
    columns = written(table, study)
    of_model = {c.name: table.values[:, k] for k, c in enumerate(design_columns(study.features))}
    of_values = (
        *value_findings(columns, table.rows),
        *combination_findings(columns, table.rows),
        *completeness_findings(table, study, columns),
    )
    if study.segments:  # nobody is positive or negative
        return in_table(table, of_values)
    findings = (
        *of_values,
        *leakage_findings(of_model, table.labels),
        *_label_findings(table, study, label_rule or study.label.rule),
    )
    return in_table(table, findings)


# --- labels against their rule ----------------------------------------------------------------------------------------


def label_agreement(table: ParticipantTable, study: StudyConfig) -> dict[str, tuple[int, int]]:
    """Rule -> (people whose label is what the rule says, people whom it decides); only rules that decide somebody."""
    agreement: dict[str, tuple[int, int]] = {}
    if study.segments:
        return agreement
    for name, decided in _decisions(table, study).items():
        compared = (decided >= 0) & (table.labels >= 0)
        if compared.any():
            agreement[name] = (int((compared & (decided == table.labels)).sum()), int(compared.sum()))
    return agreement


def _decisions(table: ParticipantTable, study: StudyConfig) -> dict[str, Decisions]:
    parts = _parts(table, study)
    return {name: apply(rule, parts) for name, rule in RULES.items() if parts.keys() & set(rule.parts)}


def _parts(table: ParticipantTable, study: StudyConfig) -> Parts:
    """What the table has of the parts of any rule; a column without a single value is a test that was not used."""
    values = {c.name: table.values[:, k] for k, c in enumerate(design_columns(study.features))}
    wanted = {part for rule in RULES.values() for part in rule.parts}
    parts: dict[str, NDArray[np.float64]] = {}
    for name in wanted & (values.keys() | set(table.sheet.header)):
        if name == DEVICE:
            column = np.array([device_code(text) for text in texts(table, name)], dtype=np.float64)
        else:
            column = values[name] if name in values else numbers(table, name)
        if not np.isnan(column).all():
            parts[name] = column
    return parts


def _label_findings(table: ParticipantTable, study: StudyConfig, stated: str) -> Iterator[Finding]:
    """How far the labels follow the stated rule, whose do not, and whether another rule fits better."""
    agreement = label_agreement(table, study)
    if stated == UNKNOWN_RULE:
        yield _unsaid(agreement, study.label.column)
        return
    if stated in agreement:
        yield from _against_rule(table, study, RULES[stated], agreement[stated])
    yield from _better_rule(agreement, stated, study.label.column)


def _unsaid(agreement: Mapping[str, tuple[int, int]], column: str) -> Finding:
    """Nobody has said how the labels were made; the rule that fits best is named, and not taken for it."""
    shares = {name: share for name, share in _shares(agreement).items() if share >= LIKELY}
    best = max(shares, key=lambda name: shares[name], default="")
    fits = f"; they agree with {best} for {shares[best]:.0%}" if best else ""
    seen = f"nobody has said how the labels were made{fits}"
    remedy = (
        f'write label_rule = "{best or "awgs2019"}" into site.toml if that is how, else the rule that was really used'
    )
    return finding("warning", "label-rule", column, (seen, "the name of a rule in site.toml", remedy))


def _shares(agreement: Mapping[str, tuple[int, int]]) -> dict[str, float]:
    """Rule -> share of agreeing people, of the rules that decide enough of them."""
    return {n: agreeing / compared for n, (agreeing, compared) in agreement.items() if compared >= FEWEST_FOR_A_RULE}


def _against_rule(
    table: ParticipantTable, study: StudyConfig, rule: LabelRule, agreement: tuple[int, int]
) -> Iterator[Finding]:
    agreeing, compared = agreement
    decided = apply(rule, _parts(table, study))
    labelled = int((table.labels >= 0).sum())
    if 1 - agreeing / compared >= INVERTED and compared >= FEWEST_FOR_A_RULE:
        seen = f"{compared - agreeing} of {people(compared)} have the opposite of what {rule.title} says"
        words = (seen, "1 for positive, 0 for negative", "exchange 0 and 1 in the whole column")
        yield finding("error", "label-inverted", study.label.column, words)
        return
    open_ = f"; {people(labelled - compared)} cannot be checked, parts are missing" if labelled > compared else ""
    seen = f"{agreeing} of {people(compared)} have the label that {rule.title} gives{open_}"
    words = (seen, "all", "nothing to do" if agreeing == compared else _RULE_REMEDY)
    yield finding("note", "label-rule", study.label.column, words)
    wrong = np.flatnonzero((decided >= 0) & (table.labels >= 0) & (decided != table.labels))
    yield from listed(
        [
            finding(
                "warning",
                "label-mismatch",
                study.label.column,
                (f"{table.labels[k]}", f"{decided[k]}, which {rule.title} gives", _LABEL_REMEDY),
                table.rows[k],
            )
            for k in wrong
        ]
    )


_RULE_REMEDY = "correct labels or parts that disagree, or state the rule that was really used in site.toml"
_LABEL_REMEDY = "correct the label, or the value of the rule's parts in this row"


def _better_rule(agreement: Mapping[str, tuple[int, int]], stated: str, column: str) -> Iterator[Finding]:
    shares = _shares(agreement)
    if not shares:
        return
    best = max(shares, key=lambda name: (shares[name], name == stated))
    seen = f"labels agree with {best} for {shares[best]:.0%}"
    if stated not in shares:
        seen += f"; the stated {stated} cannot be checked, its columns are not here"
        if shares[best] >= LIKELY:
            yield finding("note", "label-rule", column, (seen, f"the columns of {stated}", _RULE_REMEDY))
    elif shares[best] >= shares[stated] + BETTER:
        seen += f", with the stated {stated} for {shares[stated]:.0%}"
        yield finding("warning", "label-rule", column, (seen, f"labels made by {stated}", _RULE_REMEDY))
