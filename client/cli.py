"""sarco-site: what a hospital runs."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from client import federation_cli, segment_cli
from sarco_models.errors import ConfigError, Finding, SarcoError

if TYPE_CHECKING:  # commands import what they need when they run, so that --help does not wait for OpenCV
    from client.quality.check import Comparison, Options
    from client.quality.records import QualityReport
    from sarco_models.image_cache import Progress as Told

app = typer.Typer(
    name="sarco-site",
    help="Run a hospital's side of a federation. Nothing leaves this machine but what the study asks and you allow.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()
STUDY = Path(__file__).resolve().parent.parent / "configs" / "study.toml"
CACHE = ".sarco-cache"
_COLOURS = {"error": "bold red", "warning": "yellow", "note": "dim"}
_EXIT = {"may join": 0, "errors": 1, "cannot check": 2}


@app.callback()
def _menu() -> None:
    """Run a hospital's side of a federation."""


@app.command("check-data")
def check_data(
    data: Annotated[Path, typer.Argument(help="The folder with participants.csv, images.csv, images/ and masks/.")],
    study: Annotated[Path, typer.Option(help="The study file.")] = STUDY,
    site: Annotated[Path | None, typer.Option(help="Your site.toml: its label rule, templates and cache.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the page here (HTML).")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write verdict, findings, summary here.")] = None,
    cache: Annotated[Path | None, typer.Option(help=f"What was looked at already; default DATA/{CACHE}.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 = this one.")] = min(os.cpu_count() or 1, 8),
    salt: Annotated[Path | None, typer.Option(help="Secret shared with other hospitals: compare with them.")] = None,
    other: Annotated[list[Path] | None, typer.Option(help="Another hospital's fingerprints (with --salt).")] = None,
    fingerprints: Annotated[Path | None, typer.Option(help="Write ours for the others (with --salt).")] = None,
) -> None:
    """Look at every table, image and mask, and list every fault with its place and its remedy.

    Nothing is sent, and nothing in DATA is changed but its cache. Exit status: 0 may join, 1 errors, 2 cannot check.
    """
    from client.quality.check import check_site
    from client.quality.page import page
    from client.quality.summary import as_json
    from sarco_models.config import load_study

    try:
        options, place = _options(site, data, workers)
        options = replace(options, comparison=_comparison(salt, other, fingerprints))
        agreed = load_study(study)
        with _bar("images") as told:
            found = check_site(data, agreed, cache or place, options, told)
        if json_file:
            _write(json_file, json.dumps(as_json(found), indent=2, ensure_ascii=False) + "\n")
        if report:
            _write(report, page(found))
    except SarcoError as error:
        _refused(error)
        raise typer.Exit(2) from None
    _show(found)
    for written in (report, json_file):
        if written:
            console.print(f"written: {written}", highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(_EXIT[found.verdict])


@app.command()
def ingest(
    source: Annotated[Path, typer.Argument(help="Your export: folders of images and masks, and a table. Only read.")],
    data: Annotated[Path, typer.Argument(help="The site's folder: made, or brought up to date.")],
    study: Annotated[Path, typer.Option(help="The study file.")] = STUDY,
    table: Annotated[Path | None, typer.Option(help="Which table holds the participants.")] = None,
    sheet: Annotated[str | None, typer.Option(help="Which sheet of that workbook.")] = None,
    mapping: Annotated[Path | None, typer.Option(help="mapping.toml; default in DATA-private/.")] = None,
    frames: Annotated[str | None, typer.Option(help="Of a cine: first, middle, each, or a number from 0.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 = this one.")] = min(os.cpu_count() or 1, 8),
) -> None:
    """Build the site's folder from an export: match by id, convert units, copy pixels without identifiers.

    Run it, correct the mapping that it writes, run it again. Then check the folder with check-data.
    """
    from client import ingest as building
    from sarco_models.config import load_study

    try:
        with _bar("images") as told:
            done = building.ingest(
                source,
                data,
                load_study(study),
                table=table,
                sheet=sheet,
                mapping=mapping,
                frames=frames,
                progress=told,
                workers=workers,
            )
    except SarcoError as error:
        _refused(error)
        raise typer.Exit(1) from None
    _list(done.findings)
    console.print()
    for line in building.lines(done):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@app.command()
def approve(
    study: Annotated[Path, typer.Argument(help="The study file, or the coordinator's kit (NAME.kit).")],
    site: Annotated[Path, typer.Option(help="Your site.toml.")],
    by: Annotated[str, typer.Option(help="Who approves; default: the account that runs this.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Take an approval back; it counts at once.")] = False,
) -> None:
    """Read in plain words what a study does and what would leave, and approve it, or take an approval back.

    Of a kit the coordinator's certificate is shown, too, and what site.toml lacks is written if you say so.
    """
    from client.desk import approving
    from client.kit import is_kit

    try:
        if is_kit(study) and not withdraw:
            federation_cli.accept(study, site, by=by, yes=yes)
            return
        asked = approving(study, site)
        if not withdraw:
            _say_all(asked.lines())
        if not yes:
            typer.confirm(asked.question(withdraw=withdraw), abort=True)
        _say_all(asked.record(by=by, withdraw=withdraw))
    except SarcoError as error:
        _refused(error)
        raise typer.Exit(1) from None


audit = typer.Typer(help="Read and check the log of what was asked, decided and sent.", no_args_is_help=True)
app.add_typer(audit, name="audit")


@audit.command()
def verify(
    site: Annotated[Path, typer.Argument(help="Your site.toml.")],
    heads: Annotated[Path | None, typer.Option(help="What the coordinator's `heads` command wrote.")] = None,
) -> None:
    """Check every line of the log, and that all heads which the coordinator has kept are in it."""
    from client.desk import verified

    try:
        _say_all(verified(site, heads))
    except SarcoError as error:
        _refused(error)
        raise typer.Exit(1) from None


@audit.command("show")
def show_audit(
    site: Annotated[Path, typer.Argument(help="Your site.toml.")],
    last: Annotated[int, typer.Option(min=1, help="So many of the last entries.")] = 40,
) -> None:
    """Show the last entries of the log as a table."""
    from client.desk import shown

    try:
        _say_all(shown(site, last))
    except SarcoError as error:
        _refused(error)
        raise typer.Exit(1) from None


@app.command()
def budget(
    site: Annotated[Path, typer.Argument(help="Your site.toml.")],
    plot: Annotated[Path | None, typer.Option(help="Draw what was spent over time here (PNG).")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the page here.")] = None,
    new: Annotated[bool, typer.Option("--new-participants", help="Write down: who is not known is new.")] = False,
    by: Annotated[str, typer.Option(help="Who says so; default: the account that runs this.")] = "",
) -> None:
    """Show what was spent of the participants' privacy, what is left, by study, and what no figure covers."""
    from client.budget import told

    _or_refused(lambda: told(site, plot=plot, html=html, new=new, by=by))


def _or_refused(lines: Callable[[], Iterable[str]]) -> None:
    try:
        _say_all(lines())
    except SarcoError as error:
        _refused(error)
        raise typer.Exit(1) from None


def _say_all(lines: Iterable[str]) -> None:
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@app.command()
def key(site: Annotated[Path, typer.Argument(help="Your site.toml.")]) -> None:
    """Show the public line that other hospitals enrol you with, for secure aggregation; the key is made if need be."""
    from client.identity import enrolment
    from client.site_config import SiteConfig
    from sarco_models.config import load_config

    try:
        config = load_config(site, SiteConfig)
        shown = enrolment(config.name, site.parent / config.state)
    except SarcoError as error:
        _refused(error)
        raise typer.Exit(1) from None
    console.print(shown, highlight=False, markup=False, soft_wrap=True)


@app.command()
def preview(
    study: Annotated[Path, typer.Argument(help="The study file.")],
    site: Annotated[Path, typer.Option(help="Your site.toml.")],
    out: Annotated[Path, typer.Option(help="Write the page here (HTML). It stays in the hospital.")] = Path(
        "preview.html"
    ),
    image: Annotated[bool, typer.Option(help="Attack and show one participant's image and row.")] = True,
) -> None:
    """Show exactly what would leave: one real round, run here, attacked, and sent to nobody."""
    from client.preview.planning import page_of

    try:
        with _bar("images") as told:
            text = page_of(study, site, image=image, progress=told)
        _write(out, text, rights=0o600)
    except SarcoError as error:
        _refused(error)
        raise typer.Exit(1) from None
    console.print(f"written: {out}", highlight=False, markup=False, soft_wrap=True)


def _options(site: Path | None, data: Path, workers: int) -> "tuple[Options, Path]":
    """What site.toml says, and the cache it names."""
    from client.quality.check import Options

    if site is None:
        return Options(workers=workers), data / CACHE
    from client.site_config import SiteConfig
    from sarco_models.config import load_config

    config = load_config(site, SiteConfig)
    model = site.parent / config.segmenter if config.segmenter else None
    options = Options(config.name, config.label_rule, config.templates, workers, segmenter=model)
    return options, site.parent / config.cache


def _comparison(salt: Path | None, others: list[Path] | None, own: Path | None) -> "Comparison | None":
    from client.quality.check import Comparison

    if salt is None:
        if others or own:
            raise ConfigError("--other and --fingerprints need --salt: the file with the secret the hospitals share")
        return None
    return Comparison(salt, tuple(others or ()), own)


@contextmanager
def _bar(noun: str) -> "Iterator[Told]":
    """A progress bar on a terminal; nothing in a log."""
    columns = (TextColumn(noun), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(noun, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _write(path: Path, text: str, rights: int = 0o666) -> None:
    """Whole or not at all; ``rights`` are less what the account's umask takes."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".part")
        partial.unlink(missing_ok=True)  # left by a crash, perhaps with other rights
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, rights)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        partial.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; name a file in a folder that you may write to") from None


def _refused(error: SarcoError) -> None:
    from client.contact import plain

    text = "\n".join(map(plain, str(error).split("\n")))
    Console(stderr=True).print("error:", text, highlight=False, markup=False, soft_wrap=True)


def _show(report: "QualityReport") -> None:
    """What was found, and the verdict last, where the eye is."""
    from client.quality.summary import counted, headline

    _list(report.findings)
    mark = "SYNTHETIC  " if report.synthetic else ""
    console.print(f"\n{mark}{report.site}: {counted(report)}", highlight=False, markup=False, soft_wrap=True)
    console.print(headline(report), style="bold", highlight=False)


def _list(findings: Iterable[Finding]) -> None:
    """Each rule with its first places and its remedies."""
    from client.quality.summary import PLACES_SHOWN, groups

    for severity, rule, found in groups(findings):
        count = f"{len(found):,} x " if len(found) > 1 else ""
        console.print(Text.assemble((f"{severity:8}", _COLOURS[severity]), (f"{count}{rule}", "bold")))
        for finding in found[:PLACES_SHOWN]:
            words = f"{_place(finding)}: {finding.seen}; expected {finding.expected}"
            console.print(" " * 8 + words, highlight=False, markup=False, soft_wrap=True)
        if len(found) > PLACES_SHOWN:
            console.print(f"        and {len(found) - PLACES_SHOWN:,} more (--report, --json)", style="dim")
        for remedy in list(dict.fromkeys(finding.remedy for finding in found))[:2]:
            console.print(f"        -> {remedy}", highlight=False, markup=False, soft_wrap=True)


def _place(finding: Finding) -> str:
    row = f"row {finding.row}" if finding.row and not finding.file.endswith(f"row {finding.row}") else ""
    return ", ".join(part for part in (finding.file, row, finding.field) if part)


federation_cli.add_to(app)
segment_cli.add_to(app)


if __name__ == "__main__":
    app()
