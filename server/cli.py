"""sarco-coordinator: what a coordinator runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from sarco_models.errors import SarcoError
from server import operating_cli
from server.dashboard.cli import dashboard
from server.plan_cli import plan, require_trained, show_plan_of

if TYPE_CHECKING:
    from server.runs import Run

app = typer.Typer(
    name="sarco-coordinator",
    help="Run the coordinator's side of a federation. It sees weights, metrics and counts, never a participant's row.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()


@app.callback()
def _menu() -> None:
    """Run the coordinator's side of a federation."""


@app.command()
def show(folder: Annotated[Path, typer.Argument(help="A run directory.")]) -> None:
    """Show the rounds of a run: who answered, how good the model was, what moved, what went wrong, what sites found."""
    from server.runs import Run

    try:
        run = Run.open(folder)
        if run.study.unplanned:
            show_plan_of(run)
            return
        _show_rounds(run)
        (_show_muscles if run.study.segments else _show_release)(run)
    except SarcoError as error:
        Console(stderr=True).print("error:", error, highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1) from None


@app.command()
def release(
    folder: Annotated[Path, typer.Argument(help="A run directory, complete and probed by its sites.")],
    out: Annotated[Path, typer.Option(help="The folder for the receiver; it must not exist yet.")],
    attack: Annotated[Path | None, typer.Option(help="attack.json of sarco-lab attack, to go with the model.")] = None,
) -> None:
    """Hand the model out with its privacy statement and leakage audit; refused where the study's gate is not passed."""
    from server.release import release as hand_out
    from server.runs import Run

    try:
        run = Run.open(folder)
        require_trained(run)
        done = hand_out(run, out, attack)
    except SarcoError as error:
        Console(stderr=True).print("error:", error, highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    for sentence in (*done.statement.sentences, *done.gate.words()):
        _say(sentence)
    _say(f"{done.verdict}: {done.folder}")


@app.command()
def heads(
    folder: Annotated[Path, typer.Argument(help="A run directory.")],
    out: Annotated[Path, typer.Option(help="Write the list here (JSON), for the hospitals.")],
) -> None:
    """Write the heads of the hospitals' audit logs, which they hold against their own: sarco-site audit verify."""
    from server.heads import UNNAMED, export
    from server.runs import Run

    try:
        kept = export(Run.open(folder), out)
    except SarcoError as error:
        Console(stderr=True).print("error:", error, highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    for site, count in kept.items():
        before = ", from before it gave its name" if site.startswith(UNNAMED) else ""
        _say(f"{site}: {count} head{'' if count == 1 else 's'}{before}")
    _say(f"written: {out}")


def _show_rounds(run: Run) -> None:
    from server import failures
    from server.tables import size
    from server.traffic import in_words

    records = run.records()
    complete = max(len(records) - 1, 0)
    console.print(f"{run.study.title}: {complete} of {run.study.federation.rounds} rounds complete", highlight=False)
    if run.begun:
        console.print(f"begins with the released model of study {run.begun['study'][:12]}", highlight=False)
    score, words = ("dice", "Dice") if run.study.segments else ("auc", "AUC")
    table = _table(("round", "sites", "central loss", f"central {words}", "down", "up", "seconds"))
    for record in records:
        central = record["central"]
        loss, auc = (f"{central[m]:.3f}" if m in central else "" for m in ("loss", score))
        moved = (size(record[key]) for key in ("bytes_down", "bytes_up"))
        sites, seconds = str(len(record["sites"])), f"{record['seconds']:.1f}"
        table.add_row(str(record["round"]), sites, loss, auc, *moved, seconds)
    console.print(table)
    if moved_words := in_words(records, run.study.federation):
        _say(moved_words)
    for record in records:
        for site, reason in record["failures"].items():
            _say(f"round {record['round']}, {site}: {failures.in_words(reason)}")


def _show_release(run: Run) -> None:
    from server import assessment_table, failures

    about, found = run.released, run.assessments
    if about is None:
        return
    threshold = about["threshold"]
    why = f" ({about['no_threshold']})" if "no_threshold" in about else ""
    _say(f"final model: {run.folder / 'model.safetensors'}, threshold {threshold}{why}")
    if "threshold_from" in about:
        origin = about["threshold_from"]
        people = f"{origin['participants']} training participants, {origin['positives']} of them cases"
        withheld = f"; no histogram of {', '.join(origin['withheld'])}" if origin["withheld"] else ""
        _say(f"the threshold rests on {', '.join(origin['sites']) or 'nobody'}: {people}{withheld}")
    if found is None:
        _say("the sites have not assessed it yet: run the same command again")
        return
    _say("")
    if found:
        table = _table(assessment_table.HEADINGS, left="site", padding=1)
        for row in assessment_table.rows(found):
            table.add_row(*row)
        console.print(table)
    for sentence in assessment_table.sentences(found, threshold) if found else ["no site has assessed it"]:
        _say(sentence)
    for site, reason in run.assessing.get("failures", {}).items():
        _say(f"not assessed by {site}: {failures.in_words(reason)}")


def _show_muscles(run: Run) -> None:
    """How well muscles were found on the hospitals' test participants, and from which score one is accepted."""
    from server import failures, muscle_table
    from server.measured import read_measured
    from server.validated import accepted_in_words, shapes_in_words

    about = run.released
    if about is None:
        return
    _say(f"final model: {run.folder / 'model.safetensors'}")
    for sentence in (*accepted_in_words(about), *shapes_in_words(about)):
        _say(sentence)
    if run.assessments is None:
        _say("the sites have not measured it yet: run the same command again")
        return
    measured = read_measured(run.folder)
    table = muscle_table.lines(measured, run.study)
    for line in ("", *table, *muscle_table.SENTENCES) if table else ("no site has measured it",):
        _say(line)
    if missing := muscle_table.untold(measured, run.study):
        _say(f"NOT MEASURED, by any hospital: {', '.join(missing)}")
    for site, reason in run.assessing.get("failures", {}).items():
        _say(f"not measured by {site}: {failures.in_words(reason)}")


def _table(headings: Sequence[str], left: str = "", padding: int = 2) -> Table:
    """A table whose numbers stand under each other; 80 characters hold six columns of intervals with a padding of 1."""
    table = Table(box=None, padding=(0, padding), header_style="bold")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == left else "right")
    return table


def _say(sentence: str) -> None:
    console.print(sentence, highlight=False, markup=False, soft_wrap=True)


operating_cli.register(app)
app.command()(plan)
app.command()(dashboard)

if __name__ == "__main__":
    app()
