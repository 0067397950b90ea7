"""What this hospital's ledger says: spent, left, by study and by round, for the worst person; what it cannot say.

Everything is computed from the ledger alone. Participants' data are opened for one thing only: to write down that
people who are not known are new (:func:`acknowledged`).
"""

from __future__ import annotations

import getpass
from dataclasses import replace
from pathlib import Path

from client.approval import FILE as APPROVALS
from client.audit import FILE as AUDIT
from client.budget_figures import Summary, counted, summary
from client.budget_page import page, picture
from client.budget_words import limits, lines
from client.ledger import FILE, Ledger, heads_kept
from client.person_sets import PersonSet, tables_digest
from client.quality.check import says_synthetic
from client.site_config import SiteConfig
from sarco_models.chain import read
from sarco_models.config import load_config, load_study
from sarco_models.errors import ConfigError
from sarco_models.schema import PARTICIPANTS_FILE, read_participants


def told(
    site: Path, *, plot: Path | None = None, html: Path | None = None, new: bool = False, by: str = ""
) -> list[str]:
    """The command: what to print, after the pictures were written that were asked for.

    Args:
        site: site.toml.
        plot: where the curve goes (PNG).
        html: where the page goes.
        new: write down first that people who are not known are new.
        by: who says so; default the account.

    Raises:
        ConfigError: site.toml is wrong, or a file cannot be written.
        ChainBroken: the ledger was tampered with.
    """
    config = load_config(site, SiteConfig)
    path, heads = site.parent / config.state / FILE, heads_kept(site.parent / config.state / AUDIT)
    said = acknowledged(site, by or getpass.getuser()) if new else []
    if not (path.exists() or path.with_suffix(".key").exists() or heads):
        nothing = f"{config.name}: nothing was ever spent here: there is no ledger yet ({path})"
        empty = [f"not written: {target}: nothing was spent yet" for target in (plot, html) if target]
        return [*said, nothing, *(f"{label:8}{words}" for label, words in limits(config.budget)), *empty]
    ledger = Ledger.open(path, heads)
    try:
        ledger.verify()
        found = summary(ledger, config.budget, config.name, _titles(site, config), over_time=bool(plot or html))
    finally:
        ledger.close()
    found = replace(found, synthetic=says_synthetic(site.parent / config.data))
    for target, made in ((plot, "picture"), (html, "page")):
        if target:
            _write(target, made, found)
            said.append(f"written: {target}")
    return [*lines(found), *said]


def acknowledged(site: Path, by: str) -> list[str]:
    """Write down that those in the tables who are in doubt are new; what was done, in words.

    Raises:
        DataError: the tables cannot be read.
        ChainBroken: the ledger was tampered with.
    """
    config = load_config(site, SiteConfig)
    folder, state = site.parent / config.data, site.parent / config.state
    table = read_participants(folder / PARTICIPANTS_FILE, load_study(site.parent / config.study))
    ledger = Ledger.open(state / FILE, heads_kept(state / AUDIT))
    try:
        count = ledger.acknowledge(PersonSet.of(table.ids, tables=tables_digest(folder / PARTICIPANTS_FILE)), by)
    finally:
        ledger.close()
    if not count:
        return ["nobody is in doubt: nothing was written down"]
    return [f"written down: {by} says that {counted(count, 'participant')} were never charged here under another name"]


def _titles(site: Path, config: SiteConfig) -> dict[str, str]:
    """Digest -> title, of the study that the hospital has, and of those that it has approved."""
    titles = {}
    approvals = site.parent / APPROVALS
    if approvals.exists():
        titles = {str(e.facts["study"]): str(e.facts["title"]) for e in read(approvals) if "title" in e.facts}
    try:
        study = load_study(site.parent / config.study)
    except ConfigError:
        return titles
    return {**titles, study.digest: study.title}


def _write(path: Path, made: str, found: Summary) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".part")
        partial.write_bytes(picture(found) if made == "picture" else page(found).encode())
        partial.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; name a file in a folder that you may write to") from None
