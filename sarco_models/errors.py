"""What can go wrong, in the words of the person who has to mend it.

    SarcoError
    ├── ConfigError           a study, site or coordinator file is wrong
    ├── DataError             a hospital's files are wrong: carries every Finding, not only the first
    │   ├── UnreadableImage   a frame cannot be decoded, or is not a still two-dimensional ultrasound frame
    │   ├── MissingSpacing    a length or an area was asked of a frame whose millimetres per pixel are unknown
    │   └── MaskError         a mask cannot be read, or does not fit its image
    ├── WeightsError          starting weights are absent, or do not fit the model
    ├── UndefinedMetric       a statistic has no value on these participants (one class only, no events)
    ├── ProtocolError         a message between coordinator and site does not say what it should
    ├── PolicyViolation       a request that the hospital has not allowed
    ├── BudgetExceeded        a request that would spend more privacy than the hospital has left
    ├── ChainBroken           a ledger or an audit log was edited, cut or reordered
    ├── QuorumLost            too few sites answered a round
    │   └── ShutOut           so many were revoked that those who are left are too few
    ├── ProcessError          a program of ours does not start, or ends again and again
    └── RunError              a run directory belongs to another study, or is not a run

Every message says what, where, the value, the limit and the way out. Commands print it and exit with status 1.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing found in a hospital's data, with its place and its remedy.

    Attributes:
        severity: ``error`` stops the command, ``warning`` leaves something out, ``note`` is only said.
        rule: short stable name of the check, such as ``range`` or ``duplicate-id``.
        file: name of the file, as the hospital knows it.
        row: line in a table, counted as a spreadsheet does (the header is row 1); None for a whole file.
        field: column or attribute; empty when the whole row or file is meant.
        seen: the value that was found.
        expected: the limit or the form that was expected.
        remedy: what to do.
    """

    severity: Severity
    rule: str
    file: str
    seen: str
    expected: str
    remedy: str
    row: int | None = None
    field: str = ""

    def __str__(self) -> str:
        """One line: place, value, limit, way out."""
        place = self.file
        if self.row is not None:
            place += f", row {self.row}"
        if self.field:
            place += f", field {self.field}"
        return f"{place}: {self.seen}; expected {self.expected}; {self.remedy}"


class SarcoError(Exception):
    """Base of every error that a user of SARCO-FL can mend."""


class ConfigError(SarcoError):
    """A configuration file is wrong."""


class DataError(SarcoError):
    """A hospital's files are wrong; ``findings`` holds every one of the faults."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        """Keep all findings; the message lists them, errors only."""
        self.findings = tuple(findings)
        super().__init__("\n".join(str(f) for f in self.findings))

    def __reduce__(self) -> tuple[type["DataError"], tuple[tuple[Finding, ...]]]:
        """An error that crosses processes keeps its findings."""
        return type(self), (self.findings,)


class UnreadableImage(DataError):
    """A frame cannot be decoded, or is not a still two-dimensional ultrasound frame."""


class MissingSpacing(DataError):
    """Millimetres per pixel are unknown, and nothing may be assumed in their place."""


class MaskError(DataError):
    """A mask cannot be read, or does not fit its image."""


class WeightsError(SarcoError):
    """Starting weights are absent, or do not fit the model."""


class UndefinedMetric(SarcoError):
    """A statistic has no value on these participants; report it as absent, never as 0.5."""


class ProtocolError(SarcoError):
    """A message between coordinator and site does not say what it should."""


class PolicyViolation(SarcoError):
    """A request that this hospital has not allowed."""


class BudgetExceeded(SarcoError):
    """A request that would spend more privacy than the hospital has left."""

    def __init__(self, *, now: float, after: float, limit: float, what: str, way_out: str = "") -> None:
        """``what`` names the limit: of the lifetime, of one study."""
        self.now, self.after, self.limit, self.what = now, after, limit, what
        super().__init__(
            f"this would take epsilon from {now:.3f} to {after:.3f}; the limit of {what} is {limit:.3f}: nothing was "
            f"trained and nothing leaves; {way_out or 'raise the limit in site.toml [budget], or leave the study'}"
        )


class ChainBroken(SarcoError):
    """A ledger or an audit log was edited, cut or reordered."""


class QuorumLost(SarcoError):
    """Too few sites answered a round."""


class ShutOut(QuorumLost):
    """Fewer sites than a quorum may take part at all: trying again is of no use before one is enrolled again."""


class ProcessError(SarcoError):
    """A program of ours does not start, or ends again and again."""


class RunError(SarcoError):
    """A run directory belongs to another study, or is not a run."""
