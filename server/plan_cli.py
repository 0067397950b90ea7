"""``sarco-coordinator plan``: hospitals agree on a network by sums, and nothing is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from sarco_models.errors import RunError
from server import operating_cli

if TYPE_CHECKING:
    from sarco_models.config import StudyConfig
    from server.home import Home
    from server.plan_file import Planned
    from server.runs import Run

console = Console()


def plan(
    study: Annotated[Path, typer.Argument(help='The study with network = "nnunet" and no plan, as approved (TOML).')],
    out: Annotated[Path, typer.Option(help="The study with its plan, to be written (TOML).")],
    name: Annotated[str, typer.Option(help="Of the run; default: the study's name and a number.")] = "",
    home: operating_cli.AtHome = Path(),
) -> None:
    """Ask the hospitals for sums over their images' sizes and grey levels, and write the study with its network's plan.

    Nothing is trained. The written study is another one: give it to the hospitals, who approve it as any study.
    """
    from sarco_models.config import load_study
    from server import submissions
    from server.plan_file import is_planned, read_plan, require_unplanned
    from server.runs import Run
    from server.study_text import require_room, write_planned

    with operating_cli.errors():
        asked = load_study(study)
        require_unplanned(asked, study)
        at = operating_cli.opened(home)
        folder = submissions.prepare(at, asked, name or submissions.run_of(at, asked))
        if not is_planned(folder):
            require_room(out)
            _ask(at, folder, asked)
        if not is_planned(folder):
            raise RunError(f"{folder}: has no plan yet: give the same command again, to follow it or go on with it")
        planned = read_plan(Run.open(folder))
        write_planned(study, planned, out)
    show(planned)
    say_next(
        planned,
        out,
        f"sarco-coordinator kits {home} --study {out}, and send each hospital its kit; when they have approved: "
        f"sarco-coordinator run {out} --home {home}",
    )


def _ask(at: Home, folder: Path, study: StudyConfig) -> None:
    """Have the hospitals asked, and follow it; a run that is at work already is only followed."""
    from server import submissions
    from server.enrolment import enrolled
    from server.following import counted

    operating_cli.require_up(at)
    mark, least = submissions.read(folder), study.federation.min_sites
    if mark is not None and mark.wanted:
        _say(f"run {folder.name} is at work: this follows it")
        operating_cli.follow_run(at, folder, shown=True)
        return
    _say(f"run {folder.name}: study {study.digest[:12]}, to be planned with at least {counted(least)}")
    if (there := len(enrolled(at))) < least:
        _say(f"only {counted(there)} enrolled: enrol the others while it waits")
    operating_cli.begin(at, folder, shown=True)


def require_trained(run: Run) -> None:
    """Raise RunError for a run that has planned a network and trained none."""
    if run.study.unplanned:
        raise RunError(
            f"{run.folder}: has planned a network and trained nothing, so that there is no model: run the study that "
            "sarco-coordinator plan has written, and release that run"
        )


def show_plan_of(run: Run) -> None:
    """The plan that a run without training has come to.

    Raises:
        RunError: it has come to none yet.
    """
    from server.plan_file import read_plan

    planned = read_plan(run)
    _say(f"{run.study.title}: a plan, no training")
    show(planned)
    _say(f"as a study: {planned.study.digest[:12]}; sarco-coordinator plan DRAFT --out FILE writes it, and asks nobody")


def show(planned: Planned) -> None:
    """The plan as a table: every number, and the statistic that led to it."""
    from server.failures import in_words

    table = Table(box=None, padding=(0, 2), header_style="bold")
    for heading in ("hospital", "participants", "in training", "images"):
        table.add_column(heading, justify="left" if heading == "hospital" else "right")
    for site, told in planned.sites.items():
        table.add_row(site, *(str(told[key]) for key in ("participants", "training", "images")))
    console.print(table)
    console.print()
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for heading in ("plan", "", "because"):
        table.add_column(heading, no_wrap=heading != "because")
    for reason in planned.reasons:
        table.add_row(reason.what, reason.value, reason.because)
    console.print(table)
    for site, why in planned.failures.items():
        _say(f"not in it: {site}: {in_words(why)}")
    if planned.failures:
        _say("the plan stands without them: to ask again when they are there, give another --name and another --out")
    for sentence in planned.warnings:
        _say(f"warning: {sentence}")


def say_next(planned: Planned, out: Path, command: str) -> None:
    """Where the planned study is, and what follows."""
    _say(f"written: {out}, study {planned.study.digest[:12]}")
    _say(f"Next: {command}")


def _say(sentence: str) -> None:
    console.print(sentence, highlight=False, markup=False, soft_wrap=True)
