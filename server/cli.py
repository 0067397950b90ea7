"""sarco-coordinator: what a coordinator runs."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from sarco_models.errors import SarcoError

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
    """Show the rounds of a run: who answered, how good the model was, what moved, and what went wrong."""
    from server.runs import Run

    try:
        run = Run.open(folder)
    except SarcoError as error:
        Console(stderr=True).print("error:", error, highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    records = run.records()
    complete = max(len(records) - 1, 0)
    console.print(f"{run.study.title}: {complete} of {run.study.federation.rounds} rounds complete", highlight=False)
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for heading in ("round", "sites", "central loss", "central AUC", "MB down", "MB up", "seconds", "failures"):
        table.add_column(heading, justify="left" if heading == "failures" else "right")
    for record in records:
        central = record["central"]
        loss, auc = (f"{central[m]:.3f}" if m in central else "" for m in ("loss", "auc"))
        moved = (f"{record[key] / 1e6:.2f}" for key in ("bytes_down", "bytes_up"))
        failures = "; ".join(f"{site}: {reason}" for site, reason in record["failures"].items())
        sites, seconds = str(len(record["sites"])), f"{record['seconds']:.1f}"
        table.add_row(str(record["round"]), sites, loss, auc, *moved, seconds, failures)
    console.print(table)
    if run.released:
        console.print(
            f"released: {folder / 'model.safetensors'}, threshold {run.released['threshold']}", highlight=False
        )


if __name__ == "__main__":
    app()
