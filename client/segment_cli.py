"""The command ``sarco-site segment``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sarco_models.errors import ConfigError, SarcoError

if TYPE_CHECKING:  # --help does not wait for torch
    from client.segment import Format, Options
    from client.segment_inputs import Input
    from client.workspace import SiteConfig
    from sarco_models.released_segmenter import ReleasedSegmenter

console = Console()
_FORMATS = "nifti,png,labelme"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(segment)


def segment(  # noqa: PLR0913, PLR0917 - options of a command
    images: Annotated[list[Path], typer.Argument(help="Files or folders: DICOM, JPEG, PNG, TIFF, BMP. Only read.")],
    model: Annotated[Path, typer.Option(help="A released model's folder, a run's, or a .safetensors file.")],
    out: Annotated[Path, typer.Option(help="Folder of the results; made for you alone.")],
    site: Annotated[Path | None, typer.Option(help="Your site.toml: templates, calibration.csv, device.")] = None,
    calibration: Annotated[Path | None, typer.Option(help="calibration.csv of these images.")] = None,
    mm_per_pixel: Annotated[
        float | None, typer.Option(help="Of images that say nothing of it, and are not in calibration.csv.")
    ] = None,
    muscle: Annotated[
        str, typer.Option(help="Which one all images are of; else their names or images.csv say it.")
    ] = "",
    formats: Annotated[str, typer.Option(help="Of the masks.")] = _FORMATS,
    largest: Annotated[bool, typer.Option("--largest", help="Keep the largest piece of each muscle.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files, corrected ones too.")] = False,
) -> None:
    """Find and measure muscles with a released model: masks, measures.csv, pictures, and a page to look through.

    Nothing is sent. The same command goes on where it stopped. Exit status: 0 all images done, 1 some could not be, 2
    nothing was done.
    """
    from client.segment import PAGE, Loaded
    from client.segment import segment as work
    from client.segment_inputs import inputs
    from client.segment_page import page
    from client.segment_table import summary
    from client.segment_writing import write_text
    from sarco_models.devices import choose
    from sarco_models.released_segmenter import open_segmenter

    try:
        config = _site(site)
        calibration, words = _calibration(calibration, config, site, images)
        options = _options(config, calibration, mm_per_pixel, formats)
        options = options.saying(overwrite=overwrite, largest=largest)
        found, opened = inputs(images), open_segmenter(model)
        found, asked = _asked(found, opened, muscle)
        segmenter = opened.segmenter(choose(config.device if config else "auto"))
        columns = (TextColumn("images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("images", total=len(found))
            done = work(
                found, Loaded(opened, segmenter), out, options, lambda n, of: bar.update(task, completed=n, total=of)
            )
        write_text(out / PAGE, page(done, opened))
    except SarcoError as error:
        Console(stderr=True).print("error:", str(error), highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(2) from None
    mark = ("SYNTHETIC: the model was trained on computer-made people",) if done.synthetic else ()
    for line in (*mark, *words, *asked, *summary(done), f"written: {out / PAGE}"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(int(bool(done.failed)))


def _asked(
    found: "tuple[Input, ...]", opened: "ReleasedSegmenter", muscle: str
) -> "tuple[tuple[Input, ...], tuple[str, ...]]":
    """The images with the muscle that the model is asked for, and what to say of it."""
    from client.segment_asked import asks, told, with_muscles

    segmentation = opened.study.segmentation
    assert segmentation is not None  # noqa: S101 - open_segmenter has seen to it
    if not asks(segmentation) and not (muscle and segmentation.classes == "asked"):
        if muscle:
            raise ConfigError(f"{muscle!r}: this model is not asked for a muscle: leave --muscle out")
        return found, ()
    with_ = with_muscles(found, segmentation, muscle)
    titles = {name: opened.title(name) for name in segmentation.names}
    return with_, () if muscle else tuple(told(with_, titles))


def _site(path: Path | None) -> "SiteConfig | None":
    if path is None:
        return None
    from client.workspace import SiteConfig
    from sarco_models.config import load_config

    return load_config(path, SiteConfig)


def _calibration(
    named: Path | None, config: "SiteConfig | None", site: Path | None, images: list[Path]
) -> tuple[Path | None, tuple[str, ...]]:
    """calibration.csv as named, or of site.toml's data, or the only one at the images or up to two folders above."""
    if named:
        return named, ()
    folders = [site.parent / config.data] if config and site else [
        folder for place in images for folder in (place.resolve(), *place.resolve().parents[:2])
    ]  # fmt: skip
    found = {folder / "calibration.csv" for folder in folders if (folder / "calibration.csv").is_file()}
    if len(found) != 1:
        return None, ()
    return (only := found.pop()), (f"millimetres: of files, and of {only}",)


def _options(config: "SiteConfig | None", calibration: Path | None, mm: float | None, formats: str) -> "Options":
    """What is known of the images, from site.toml and the command."""
    from client.segment import Options
    from client.segment_inputs import Spacings

    spacings = Spacings.read(calibration, (mm, mm) if mm is not None else None)
    return Options(_formats(formats), spacings, config.templates if config else ())


def _formats(text: str) -> "tuple[Format, ...]":
    from client.segment import FORMATS

    wanted = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [part for part in wanted if part not in FORMATS]
    if unknown or not wanted:
        raise ConfigError(f"--formats {text}: expected some of {_FORMATS}, with commas between them")
    return tuple(f for f in FORMATS if f in wanted)
