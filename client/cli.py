"""sarco-site: what a hospital runs."""

import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from sarco_models.errors import DataError, Finding, SarcoError

app = typer.Typer(
    name="sarco-site",
    help="Run a hospital's side of a federation. Nothing leaves this machine but what the study asks and you allow.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()
STUDY = Path(__file__).resolve().parent.parent / "configs" / "study.toml"
_SHOWN = 50
_COLOURS = {"error": "red", "warning": "yellow", "note": "dim"}


@app.callback()
def _menu() -> None:
    """Run a hospital's side of a federation."""


@app.command("check-data")
def check_data(
    data: Annotated[Path, typer.Argument(help="The folder with participants.csv, images.csv, images/ and masks/.")],
    study: Annotated[Path, typer.Option(help="The study file.")] = STUDY,
) -> None:
    """Read everything as a training run would, and list every fault with its place and its remedy."""
    from sarco_models.cohort import open_cohort
    from sarco_models.config import load_study

    try:
        with tempfile.TemporaryDirectory() as cache, console.status("reading"):
            cohort = open_cohort(data, load_study(study), Path(cache))
    except DataError as error:
        _show(error.findings)
        raise typer.Exit(1) from None
    except SarcoError as error:
        Console(stderr=True).print("error:", error, highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    _show(cohort.findings)
    positive = int(cohort.labels.sum())
    console.print(f"{len(cohort)} participants ({positive} positive), {len(cohort.owner)} usable images")
    for device, count in Counter(cohort.devices).most_common():
        console.print(f"  {count:5} images by {device or 'an unnamed device'}", highlight=False, markup=False)


def _show(findings: Iterable[Finding]) -> None:
    found = list(findings)
    if not found:
        return
    for f in found[:_SHOWN]:
        place = ", ".join([f.file, *([f"row {f.row}"] if f.row else []), *([f.field] if f.field else [])])
        console.print(Text.assemble((f"{f.severity:8}", _COLOURS[f.severity]), (place, "bold")), soft_wrap=True)
        for words in (f"{f.seen}; expected {f.expected}", f"-> {f.remedy}"):
            console.print(" " * 8 + words, highlight=False, markup=False, soft_wrap=True)
    counts = Counter(f.severity for f in found)
    more = f" (the first {_SHOWN} are shown)" if len(found) > _SHOWN else ""
    console.print(", ".join(f"{n} {s}{'s' if n > 1 else ''}" for s, n in counts.items()) + more, highlight=False)


if __name__ == "__main__":
    app()
