"""Which images ``sarco-site segment`` looks at, what their results are called, and what is known of their pixels."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from client.intake.survey import patterns
from client.mapping import MASK_FILES
from client.segment_journal import FILE
from sarco_models.dicom import is_dicom
from sarco_models.errors import ConfigError
from sarco_models.hints import Calibration, read_calibrations

_SUFFIXES = {".dcm", ".dicom", ".ima", ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"}


@dataclass(frozen=True)
class Input:
    """One image.

    Attributes:
        path: of the file.
        name: of its results: its own name, with the folders below the one that was named.
        muscle: of the study, that the image is of; "" = not said, or the model need not know.
    """

    path: Path
    name: str
    muscle: str = ""


def inputs(places: Sequence[Path]) -> tuple[Input, ...]:
    """Images among files and folders, in the order of their names; a folder is searched to its bottom.

    A file that is named is taken for an image, whatever it is called; in a folder, what has the suffix of a picture,
    or none and is a DICOM file; but neither results of ours nor what ``sarco-site ingest`` would call a mask.

    Raises:
        ConfigError: a place does not exist, holds no image, or two images would have the same name.
    """
    found = [image for place in places for image in _in_place(place)]
    first: dict[str, Path] = {}
    for image in found:
        other = first.setdefault(image.name, image.path)
        if other.resolve() != image.path.resolve():
            raise ConfigError(
                f"{other} and {image.path}: the results of both would be called {image.name}: name the folder that "
                "both are in, or give them results in two folders"
            )
    distinct = {image.name: image for image in found}
    return tuple(distinct[name] for name in sorted(distinct))


def _in_place(place: Path) -> Iterator[Input]:
    if place.is_file():
        yield Input(place, place.name)
        return
    if not place.is_dir():
        raise ConfigError(f"{place}: no such file or folder: name images, or folders of images")
    is_mask, ours = patterns(MASK_FILES), {journal.parent for journal in place.rglob(FILE)}
    files = [
        path
        for path in sorted(place.rglob("*"))
        if path.is_file() and not _hidden(path.relative_to(place)) and ours.isdisjoint(path.parents)
        if not is_mask(path.relative_to(place).as_posix())
    ]
    images = [p for p in files if p.suffix.lower() in _SUFFIXES or (not p.suffix and _dicom(p))]
    if not images:
        raise ConfigError(f"{place}: holds no image (DICOM, JPEG, PNG, TIFF or BMP): name another folder")
    yield from (Input(p, p.relative_to(place).as_posix()) for p in images)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return is_dicom(file)


@dataclass(frozen=True)
class Spacings:
    """What a hospital says of pictures that do not say how large their pixels are.

    Attributes:
        rows: of calibration.csv, by image as it is written there.
        folder: that their names are relative to.
        mm_per_pixel: (row, column) of every image that nothing else is said of; None = unknown.
    """

    rows: Mapping[str, Calibration]
    folder: Path
    mm_per_pixel: tuple[float, float] | None = None

    @staticmethod
    def read(path: Path | None, mm_per_pixel: tuple[float, float] | None) -> "Spacings":
        """Of calibration.csv, if there is one.

        Raises:
            DataError: a row of it is wrong.
            ConfigError: ``mm_per_pixel`` is impossible.
        """
        if mm_per_pixel and min(mm_per_pixel) <= 0:
            raise ConfigError(f"--mm-per-pixel {mm_per_pixel[0]:g}: expected millimetres above 0")
        rows = read_calibrations(path) if path else {}
        return Spacings(rows, path.parent.resolve() if path else Path(), mm_per_pixel)

    def of(self, image: Input) -> Calibration | None:
        """What calibration.csv says of an image: by its path below that folder, else by its name alone."""
        return next((self.rows[key] for key in self._keys(image) if key in self.rows), None)

    def assumed(self, image: Input) -> Calibration | None:
        """The same with :attr:`mm_per_pixel`, for an image of which nothing else says it; None where it is not said."""
        if self.mm_per_pixel is None:
            return None
        return replace(self.of(image) or Calibration(None, None), mm_per_pixel=self.mm_per_pixel)

    def _keys(self, image: Input) -> Iterable[str]:
        path = image.path.resolve()
        if path.is_relative_to(self.folder):
            yield path.relative_to(self.folder).as_posix()
        yield image.name
        yield path.name
