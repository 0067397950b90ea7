"""What a data-protection officer's commands show, ask and record: ``approve``, ``audit verify``, ``audit show``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from client.approval import FILE, Approvals, code_digest, login
from client.audit import COLUMNS, Audit, Verified, broken, disagreement, rows, verify
from client.audit import FILE as AUDIT
from client.budget_figures import summary
from client.budget_words import figures
from client.identity import by_name
from client.kit import Kit, is_kit, read_kit
from client.ledger import FILE as LEDGER
from client.ledger import Ledger
from client.site_config import SiteConfig
from client.study_words import Missing, missing, own_epsilon, sections
from client.what_leaves import manifest_of
from sarco_models.chain import Entry, read
from sarco_models.config import StudyConfig, load_config, load_study
from sarco_models.errors import ChainBroken, ConfigError
from sarco_models.parameters import Manifest

_WIDTH = 100
_SHOWN = 10
_RIGHT = ("entry", "round", "bytes")


@dataclass(frozen=True)
class Approving:
    """A study before the hospital that is to decide on it.

    Attributes:
        study: as its file says.
        config: of the hospital.
        folder: where site.toml lies.
        manifest: of what the study's rounds carry.
    """

    study: StudyConfig
    config: SiteConfig
    folder: Path
    manifest: Manifest

    @property
    def approvals(self) -> Approvals:
        """The hospital's record."""
        return Approvals(self.folder / FILE)

    def lines(self) -> Iterator[str]:
        """The study in plain words, and what the hospital's policy does not allow of it."""
        yield f"study {self.study.name}, digest {self.study.digest}"
        yield f"code  {code_digest()}"
        for section in sections(self.study, self.manifest, self.config.policy):
            yield f"\n{section.heading}"
            for sentence in section.sentences:
                yield _item(sentence)
        yield "\nWhat site.toml does not allow of it ([policy], [budget])"
        needs = self.needs()
        for need in needs:
            yield _item(f"{need.key}: {need.why}. To allow it: {need.write}")
        if not needs:
            yield "  - nothing: all of it is allowed"
        if self.study.privacy:
            cost, own = own_epsilon(self.study, self.config.budget), self.config.budget
            yield _item(
                f"at your own delta {own.delta:g}: epsilon {cost:.2f} ({own.accountant}), for the whole study; your "
                "limits are held against this number"
            )
        least = max(self.config.policy.min_training_participants, self.study.federation.min_participants)
        yield _item(
            f"not looked at here: whether you have {least} training participants (min_training_participants), and what "
            "is left of your budget for them. No data are read; sarco-site preview does both"
        )
        if needs:
            yield "  What is not allowed is refused or left out."
        yield "\nWhat was spent before"
        for sentence in self._spent():
            yield _item(sentence)
        lacking = self.approvals.lacking(self.study.digest)
        yield f"\napproval: {lacking}" if lacking else "\napproval: on record already, for this code"

    def again(self, site: Path) -> Approving:
        """The same study, before a site.toml that was changed meanwhile."""
        return replace(self, config=load_config(site, SiteConfig))

    def needs(self) -> list[Missing]:
        """What site.toml does not allow of the study."""
        names = {self.config.name, *by_name(self.config.peers)}
        return missing(self.study, self.manifest, self.config.policy, self.config.budget, names)

    def _spent(self) -> Iterator[str]:
        path = self.folder / self.config.state / LEDGER
        if not path.exists():
            yield "nothing: there is no ledger yet"
            return
        ledger = Ledger.open(path)
        try:
            found = summary(ledger, self.config.budget, over_time=False)
        finally:
            ledger.close()
        for label, words in figures(found):
            yield f"{label} {words}".strip()

    def question(self, *, withdraw: bool) -> str:
        """What is asked."""
        return f"{'Take back the approval of' if withdraw else 'Approve'} this study for {self.config.name}?"

    def record(self, *, by: str, withdraw: bool) -> Iterator[str]:
        """Write the decision into the record and into the audit log; returns what to say of it.

        Raises:
            ConfigError: there is no approval to take back.
            ChainBroken: the record or the log was tampered with.
        """
        who, approvals = by.strip() or login(), self.approvals
        lacking = approvals.lacking(self.study.digest)
        if withdraw and lacking.startswith(("none", "withdrawn")):
            raise ConfigError(f"{approvals.path}: there is no approval of study {self.study.digest[:12]} to take back")
        audit = Audit.open(self.folder / self.config.state / AUDIT)  # before the record: a broken log stops both
        entry = approvals.record(self.study, by=who, withdrawn=withdraw)
        audit.approval(entry)
        yield f"{entry.kind} by {who} ({entry.facts['login']}), {_time(entry)} UTC: {approvals.path}"
        if withdraw and self.study.digest in self.config.policy.approved_studies:
            yield "It still stands in approved_studies of site.toml: remove it there, too."
        read = self.folder / self.config.study
        if not withdraw and not (read.exists() and load_study(read).digest == self.study.digest):
            yield f"site.toml reads another study ({read}): set its key study to the file that you have approved."


def approving(study: Path | Kit | StudyConfig, site: Path) -> Approving:
    """Read both files and build the network, to know the names and sizes of what would leave.

    ``study`` is a study file, or the coordinator's kit, which holds one; a kit that was shown already is not read anew.

    Raises:
        ConfigError: a file is wrong.
    """
    config = load_config(site, SiteConfig)
    if isinstance(study, Path):
        study = read_kit(study, config.name) if is_kit(study) else load_study(study)
    agreed = study.study if isinstance(study, Kit) else study
    return Approving(agreed, config, site.parent, manifest_of(agreed))


def verified(site: Path, heads: Path | None) -> Iterator[str]:
    """Check the log of the hospital that a site.toml describes; what was found, in sentences.

    Raises:
        ChainBroken: the log was edited, cut or reordered, or does not hold what the coordinator has kept.
        ConfigError: site.toml or the file of heads is wrong.
    """
    config = load_config(site, SiteConfig)
    path = site.parent / config.state / AUDIT
    if heads is None and _nothing_yet(path):
        yield f"nothing was asked here yet: there is no audit log ({path}), and no ledger"
        return
    try:
        found = verify(path)
    except ChainBroken as error:
        raise ChainBroken(broken(path, error)) from None
    try:
        found = verify(path, site=config.name, heads=heads)
    except ChainBroken as error:
        raise ChainBroken(disagreement(error)) from None
    yield f"{path}: {len(found.entries)} entries, each follows from the one before"
    if found.entries:
        yield f"head {found.entries[-1].head}"
    if found.torn:
        yield f"{found.torn} lines were torn by a crash; each is told of by the line after it"
    ledger = site.parent / config.state / LEDGER
    spends = [str(entry.facts["ledger"]) for entry in found.entries if entry.kind == "spend"]
    if ledger.exists() or spends:
        yield f"{ledger}: {_ledger_rows(ledger, spends)} rows; the {len(spends)} spends that the log has seen are in it"
    if heads is None:
        yield "Cut off lines at its end are found by the coordinator's heads only: give --heads heads.json."
    else:
        yield from _heads_found(found, config.name)


def _heads_found(found: Verified, name: str) -> Iterator[str]:
    yield f"all {found.heads} heads that the coordinator has kept of {name} are in it"
    for entry in found.unknown[:_SHOWN]:
        yield (
            f"entry {entry.n} ({entry.facts['task']}, round {entry.facts['round']}, {_time(entry)}): the coordinator's "
            "file has no head of this answer: it was lost on the way, is of another run of the study, or was left out"
        )
    if len(found.unknown) > _SHOWN:
        yield f"and {len(found.unknown) - _SHOWN} more answers without a head"


def _nothing_yet(log: Path) -> bool:
    """Neither a log, nor a ledger or its key: with one of them there, a log that is absent was taken away."""
    ledger = log.with_name(LEDGER)
    return not (log.exists() or ledger.exists() or ledger.with_suffix(".key").exists())


def _ledger_rows(path: Path, heads: list[str]) -> int:
    """Check the ledger, and that every spend which the audit log has seen is in it; returns its rows."""
    ledger = Ledger.open(path, heads)
    try:
        return ledger.verify()
    finally:
        ledger.close()


def shown(site: Path, last: int) -> Iterator[str]:
    """The last entries of the log as a table.

    Raises:
        ChainBroken: the log is absent and a ledger is there, or it was tampered with.
    """
    config = load_config(site, SiteConfig)
    path = site.parent / config.state / AUDIT
    if _nothing_yet(path):
        yield f"nothing was asked here yet: there is no audit log ({path}), and no ledger"
        return
    table = [COLUMNS, *rows(read(path)[-last:])]
    widths = [max(len(row[k]) for row in table) for k in range(len(COLUMNS))]
    for row in table:
        cells = zip(row, widths, COLUMNS, strict=True)
        yield "  ".join(c.rjust(w) if name in _RIGHT else c.ljust(w) for c, w, name in cells).rstrip()


def _item(sentence: str) -> str:
    """A wrapped line. A study's own words cannot steer the terminal: they could hide what the lines below say."""
    sentence = "".join(c if c.isprintable() or c in "\t\n" else "\N{REPLACEMENT CHARACTER}" for c in sentence)
    return textwrap.fill(sentence, _WIDTH, initial_indent="  - ", subsequent_indent="    ")


def _time(entry: Entry) -> str:
    return entry.time[:19].replace("T", " ")
