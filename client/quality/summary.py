"""A quality report in few words: the object that ``--json`` writes, and the lines that a terminal shows."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import numpy as np

from client.quality.records import QualityReport
from sarco_models.errors import Finding

PLACES_SHOWN = 5
"""Places of a rule that a terminal shows; the page and the JSON file have them all."""


def as_json(report: QualityReport) -> dict[str, Any]:
    """``verdict``, ``findings`` and ``summary`` as plain values; places are files and rows, never identifiers."""
    return {
        "verdict": report.verdict,
        "synthetic": report.synthetic,
        "study": {"title": report.title, "digest": report.study_digest},
        "summary": _summary(report),
        "findings": [_finding(f) for f in report.findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "severity": finding.severity,
        "rule": finding.rule,
        "file": finding.file,
        "row": finding.row,
        "column": finding.field,
        "seen": finding.seen,
        "expected": finding.expected,
        "remedy": finding.remedy,
    }


def _summary(report: QualityReport) -> dict[str, Any]:
    counts = Counter(f.severity for f in report.findings)
    negative, positive = report.usable
    muscles = {m.title: {"drawn": m.drawn, "looked_for": m.looked_for, "people": m.people} for m in report.muscles}
    return {
        "errors": counts["error"],
        "warnings": counts["warning"],
        "notes": counts["note"],
        "participants": report.participants,
        "usable_negative": negative,
        "usable_positive": positive,
        "images": len(report.records),
        "images_readable": sum(r.facts is not None for r in report.records),
        "images_usable": sum(r.usable for r in report.records),
        "masks": sum(r.measures is not None for r in report.records),
        "devices": dict(Counter(r.device or "unknown" for r in report.records if r.facts).most_common()),
        "missing": {f.name: int(np.isnan(f.values).sum()) for f in report.features},
        "label_rules": {
            rule: {"agreeing": agreeing, "compared": compared}
            for rule, (agreeing, compared) in report.label_rules.items()
        },
    } | ({"muscles": muscles} if muscles else {})


def groups(findings: Iterable[Finding]) -> Iterator[tuple[str, str, tuple[Finding, ...]]]:
    """Severity, rule and findings of each group, errors first."""
    order = {"error": 0, "warning": 1, "note": 2}

    def key(finding: Finding) -> tuple[int, str]:
        return order[finding.severity], finding.rule

    for (_, rule), found in groupby(sorted(findings, key=key), key=key):
        group = tuple(found)
        yield group[0].severity, rule, group


def headline(report: QualityReport) -> str:
    """The verdict in one sentence."""
    if report.verdict == "cannot check":
        return "The data could not be checked."
    errors = sum(f.severity == "error" for f in report.findings)
    if errors:
        return f"Not yet: {_number(errors, 'error')} must be mended before this site can join."
    warnings = sum(f.severity == "warning" for f in report.findings)
    return "This site may join." + (f" {_number(warnings, 'warning')} worth a look." if warnings else "")


def counted(report: QualityReport) -> str:
    """What was looked at, in one line."""
    negative, positive = report.usable
    usable = sum(r.usable for r in report.records)
    words = _number(report.participants, "participant")
    words += f" ({positive + negative} usable)" if report.muscles else f" ({positive} positive, {negative} negative)"
    return words + (f", {usable} of {_number(len(report.records), 'image')} usable" if report.records else "")


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
