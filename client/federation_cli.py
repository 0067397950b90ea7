"""sarco-site's commands for taking part over a network: init, a kit to approve, doctor, join, status, leave."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from sarco_models.errors import SarcoError

if TYPE_CHECKING:
    from client.site_folder import SiteFolder
    from sarco_models.config import StudyConfig

console = Console()

Folder = Annotated[Path, typer.Argument(help="The hospital's folder, as sarco-site init has made it.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (init, doctor, join, status, leave):
        app.command()(command)


def init(  # noqa: PLR0913, PLR0917 - the options of a command
    folder: Annotated[Path, typer.Argument(help="Made if need be; keys and site.toml in it are never replaced.")],
    name: Annotated[str, typer.Option(help="Of the hospital, as the coordinator is to know it: small letters, _.")],
    data: Annotated[Path, typer.Option(help="The folder with participants.csv; it is never touched.")],
    study: Annotated[Path | None, typer.Option(help="A study file: takes over how labels are made.")] = None,
    relay_user: Annotated[str, typer.Option(help="Account for Flower's programs, so that they see no data.")] = "",
    label_rule: Annotated[str, typer.Option(help="How your labels were made: awgs2019, ... or a word of yours.")] = "",
) -> None:
    """Make the hospital's folder: keys, a site.toml that allows nothing, and NAME.pub to send to the coordinator."""
    from client.site_folder import Beginning, make, told

    def work() -> Iterable[str]:
        rule = label_rule
        if study is not None and not rule:
            from sarco_models.config import load_study

            rule = load_study(study).label.rule
        beginning = Beginning(name, data, rule, relay_user)
        return told(make(folder, beginning), beginning)

    _say(work)


def doctor(
    folder: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Look at everything that taking part needs, and say what to do: exit status 0 only without faults."""
    import json
    from dataclasses import asdict

    from client.doctor import examine, lines
    from client.site_folder import SiteFolder

    try:
        checks = list(examine(SiteFolder.open(folder)))
    except SarcoError as error:
        _refuse(error)
    _print([json.dumps([asdict(check) for check in checks], indent=1)] if as_json else lines(checks))
    raise typer.Exit(int(any(check.level == "fault" for check in checks)))


def join(
    folder: Folder,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say only what goes wrong.")] = False,
    install_service: Annotated[bool, typer.Option("--install-service", help="Only write systemd units.")] = False,
    units: Annotated[Path | None, typer.Option(help="With --install-service: write them here instead.")] = None,
) -> None:
    """Take part: start the worker and Flower's programs, keep them running, show what is done. Ctrl-C ends it all.

    Exit status: 0 when it was asked to end, 1 when it cannot go on: it says why and what to do.
    """
    from client.join_run import run
    from client.kit import stored
    from client.site_folder import SiteFolder
    from sarco_models.processes import printable

    try:
        place = SiteFolder.open(folder)
        if install_service:
            from client.service import UNITS, install

            _print(install(place, stored(place), units or UNITS))
            return
        why = run(place, stored(place), console, quiet=quiet)
    except SarcoError as error:
        _refuse(error)
    if why:
        Console(stderr=True).print("error:", printable(why), highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1)


def status(folder: Folder) -> None:
    """Show on one screen: the processes, the connection, what is done, what was spent, the last audit entries."""
    from client.joined import screen
    from client.site_folder import SiteFolder

    _say(lambda: screen(SiteFolder.open(folder)))


def leave(folder: Folder) -> None:
    """End a hospital's part: stop the processes, and say what stays. No data are touched."""
    from client.joining import leave as left
    from client.site_folder import SiteFolder

    _say(lambda: left(SiteFolder.open(folder)))


def accept(kit_file: Path, site: Path, *, by: str, yes: bool) -> None:
    """Show a kit and its study, offer to write what site.toml lacks, ask, record, store.

    Raises:
        SarcoError: the kit cannot be used, or the record cannot be written.
    """
    from client.accounts import own, owner_of
    from client.allowing import PEERS, differing_rule, lacking, rule_open
    from client.desk import approving
    from client.kit import lines, read_kit, store
    from client.site_folder import SiteFolder

    folder = SiteFolder.open(site)
    kit = read_kit(kit_file, folder.name)
    _print(lines(kit))
    asked = approving(kit, folder.site_file)
    _print(asked.lines())
    allowing = lacking(kit.study, asked.needs(), folder.settings, () if yes else kit.peers)
    different = differing_rule(kit.study, folder.settings)
    _print(["", different] if different else [])
    if rule_open(kit.study, folder.settings):
        allowing = allowing.beside(_rule_asked(kit.study, folder, yes=yes))
    if yes and any(need.key == PEERS for need in asked.needs()):
        _print(["--yes writes no [[peers]]: nobody has compared their fingerprints; do, and approve without --yes"])
    if allowing.changes or allowing.peers:
        _print(["", f"To allow all of it, {folder.site_file} would say:", "", *allowing.lines(), ""])
        if yes or typer.confirm("Write these lines into site.toml?"):
            allowing.write(folder.site_file)
            asked = asked.again(folder.site_file)
            _print(["written; everything else in the file is as it was"])
        else:
            _print(["site.toml stays as it is: what it does not allow is refused or left out"])
    if not yes:
        typer.confirm(asked.question(withdraw=False), abort=True)
    store(kit, folder)
    _print(asked.record(by=by, withdraw=False))
    if owner_of(folder):
        own(folder)
    _print([f"kit stored: {folder.kit.parent}", f"Next: sarco-site doctor {folder.path}"])


def _rule_asked(study: StudyConfig, folder: SiteFolder, *, yes: bool) -> str:
    """How the labels were made, as the person who approves says; empty: nobody was asked, or knows."""
    from client.allowing import is_rule
    from client.suitability import labels

    if yes:
        found = labels(folder, study)
        _print(["", f"{found.value}. Nobody joins without it; {found.remedy}"])
        return ""
    _print(
        [
            "",
            f"How were your labels made? The study's are made by {study.label.rule}; it takes others.",
            "The name leaves with your first answer. Not known yet: leave it empty, and nothing is written.",
        ]
    )
    while True:
        rule = str(
            typer.prompt(f"Name of the rule, such as {study.label.rule}", default="", show_default=False)
        ).strip()
        if not rule or is_rule(rule):
            return rule
        _print([f"{rule!r}: a name has small letters, digits and _, and begins with a letter"])


def _say(lines: Callable[[], Iterable[str]]) -> None:
    """Print what a command has to say; what went wrong goes to stderr, with status 1."""
    try:
        _print(lines())
    except SarcoError as error:
        _refuse(error)


def _refuse(error: SarcoError) -> NoReturn:
    from sarco_models.processes import printable

    Console(stderr=True).print("error:", printable(str(error)), highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(1) from None


def _print(lines: Iterable[str]) -> None:
    """What others wrote cannot steer the terminal: it could hide or forge what stands beside it."""
    from sarco_models.processes import printable

    for line in lines:
        console.print(printable(line), highlight=False, markup=False, soft_wrap=True)
