"""The preprocessed images of a site on disk: every file is decoded once, and later epochs read arrays.

A cache is a folder whose name is the digest of everything that its content depends on: the files' bytes, the rows of
the tables, the calibrations and the preprocessing. Beside the pixels lies what the frozen layers made of them and, in a
study of muscles, what is to be found there; in one that finds its masks, where each came from.
Nobody but the account that filled it can look into that folder.
"""

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sarco_models.config import StudyConfig
from sarco_models.errors import DataError, Finding
from sarco_models.images import Calibration, Template, read_calibrations, read_image
from sarco_models.intensity import GreyTables
from sarco_models.mask_origins import FINDING_VERSION, Origin, model_told, origins_told
from sarco_models.masks import read_mask
from sarco_models.preprocess import PREPROCESSING_VERSION, model_input
from sarco_models.schema import IMAGES_FILE, ImageRow
from sarco_models.segmenter_files import agreed_place
from sarco_models.targets import (
    Target,
    Targets,
    drawn_rows,
    load_targets,
    read_target,
    row_words,
    save_targets,
    target_words,
)

if TYPE_CHECKING:
    from sarco_models.auto_masks import Finder

CALIBRATION_FILE = "calibration.csv"
Progress = Callable[[int, int], None]
Compute = Callable[[NDArray[Any], NDArray[np.int64]], NDArray[np.float16]]


@dataclass(frozen=True, eq=False)
class ImageCache:
    """The preprocessed images of one site on disk, keyed by the content of its files and the preprocessing.

    Attributes:
        folder: where the arrays lie; the folder's name is the key.
        pixels: (images, size, size) uint8, memory-mapped, as the devices made them.
        rows: position of each image among the readable rows, ordered by participant.
        devices: device of each image, as the scanner names itself.
        findings: what was left out, and why.
        tables: what the devices' grey levels become for whoever looks; None: they stay.
        targets: what is to be found on each image; None in a study that finds no muscles.
        origins: where each image's mask came from; empty in a study without roi = "auto".
    """

    folder: Path
    pixels: NDArray[np.uint8]
    rows: tuple[int, ...]
    devices: tuple[str, ...]
    findings: tuple[Finding, ...]
    tables: GreyTables | None = None
    targets: Targets | None = None
    origins: tuple[Origin, ...] = ()


@dataclass(frozen=True, eq=False)
class Taken:
    """What an image has become.

    Attributes:
        pixels: (size, size) what the network sees.
        device: as the scanner names itself.
        target: what it is to find there; None in a study that finds no muscles.
        origin: where its mask came from; None in a study without roi = "auto".
    """

    pixels: NDArray[np.uint8]
    device: str
    target: Target | None = None
    origin: Origin | None = None


@dataclass(frozen=True, eq=False)
class Stack:
    """Arrays on disk that read as one along their first axis; pixels are read through the tables of their part."""

    parts: tuple[NDArray[Any], ...]
    tables: tuple[GreyTables | None, ...] = ()

    def __len__(self) -> int:
        """Number of rows over all parts."""
        return sum(len(p) for p in self.parts)

    def __getitem__(self, index: NDArray[np.int64]) -> NDArray[Any]:
        """Rows at ``index``, in that order."""
        if len(self.parts) == 1:
            return self._rows(0, index)
        starts = np.cumsum([0, *(len(p) for p in self.parts)])
        which = np.searchsorted(starts, index, side="right") - 1
        result = np.empty((len(index), *self.parts[0].shape[1:]), dtype=self.parts[0].dtype)
        for k in range(len(self.parts)):
            here = which == k
            result[here] = self._rows(k, index[here] - starts[k])
        return result

    def _rows(self, part: int, index: NDArray[np.int64]) -> NDArray[Any]:
        rows = np.asarray(self.parts[part][index])
        tables = self.tables[part] if self.tables else None
        return tables(rows, index) if tables else rows


@dataclass(frozen=True, eq=False)
class Seen:
    """What a check has read already, so that no file is read again to put its pixels into the cache.

    Attributes:
        take: what a row's image has become; raises DataError.
        digests: blake2b of the bytes of image files, by their path in images.csv.
    """

    take: Callable[[ImageRow], Taken]
    digests: Mapping[str, bytes]


def open_images(  # noqa: PLR0913 - what the pixels depend on, and where they go
    folder: Path,
    study: StudyConfig,
    rows: Sequence[ImageRow],
    cache: Path,
    progress: Progress | None,
    *,
    templates: tuple[Template, ...] = (),
    seen: Seen | None = None,
) -> ImageCache:
    """Preprocessed images of these rows, from the cache or decoded now; what cannot be read is left out and listed.

    Raises:
        ConfigError: masks are to be found, and the segmentation model is not here, or is another one.
        RunError, WeightsError: it cannot be opened.
    """
    calibration_file = folder / CALIBRATION_FILE
    calibrations = read_calibrations(calibration_file) if calibration_file.exists() else {}
    key = _content_key(folder, study, rows, calibrations, templates, seen.digests if seen else {})
    place = cache / key
    used, without_mask = drawn_rows(rows, study)
    if study.image.auto:
        agreed_place(study.image.auto)
    if (place / "index.json").exists():
        _close(place)
    else:

        def take(row: ImageRow) -> Taken:
            return _read_one(folder, study, row, calibrations.get(row.image), templates)

        if study.image.auto and not seen:
            _finder(study)  # a model that cannot be opened is said once, and not of every image

        _fill_cache(place, {k: rows[k] for k in used}, seen.take if seen else take, study, progress)
    index = json.loads((place / "index.json").read_text(encoding="utf-8"))
    origins = tuple(Origin.from_json(found) for found in index.get("origins", ()))
    return ImageCache(
        folder=place,
        pixels=np.load(place / "pixels.npy", mmap_mode="r"),
        rows=tuple(index["rows"]),
        devices=tuple(index["devices"]),
        findings=(
            *without_mask,
            *(_left_out(Finding(**f), rows[position]) for position, f in index["findings"]),
            *(replace(Finding(**f), row=rows[position].row) for position, f in index.get("said", ())),
            *model_told(study, folder),
            *origins_told(origins, study),
        ),
        targets=load_targets(place) if study.segments else None,
        origins=origins,
    )


def _content_key(  # noqa: PLR0913, PLR0917 - what the pixels depend on
    folder: Path,
    study: StudyConfig,
    rows: Iterable[ImageRow],
    calibrations: dict[str, Calibration],
    templates: tuple[Template, ...],
    known: Mapping[str, bytes],
) -> str:
    """Digest of everything the cached pixels depend on: files, rows, calibrations, templates, preprocessing."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{PREPROCESSING_VERSION}|{study.image.model_dump_json()}|{templates}".encode())
    digest.update((f"|{FINDING_VERSION}" if study.image.auto else target_words(study)).encode())
    for row in rows:
        said = (row.image, row.participant_id, row.mask, row.mask_label, row.frame, calibrations.get(row.image))
        digest.update(f"|{said}{row_words(row, study)}".encode())
        for name in (row.image, row.mask):
            path = folder / name
            digest.update(known.get(name) or (_file_digest(path) if name and path.is_file() else b"absent"))
    return digest.hexdigest()


def _file_digest(path: Path) -> bytes:
    """Digest of a file's content; a file that has not been touched is read once in a process."""
    stat = path.stat()
    return _content_digest(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=65536)
def _content_digest(path: Path, _size: int, _mtime_ns: int) -> bytes:
    return hashlib.blake2b(path.read_bytes()).digest()


def _fill_cache(
    place: Path,
    rows: Mapping[int, ImageRow],
    take: Callable[[ImageRow], Taken],
    study: StudyConfig,
    progress: Progress | None,
) -> None:
    """Decode every image once into a folder that gets its name only when it is complete."""
    make_cache(place.parent)
    _sweep(place.parent)
    partial = place.with_name(f"{place.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    kept: dict[int, Taken] = {}
    findings: list[tuple[int, Finding]] = []
    for done, (position, row) in enumerate(rows.items(), start=1):
        try:
            kept[position] = take(row)
        except DataError as error:
            findings += [(position, f) for f in error.findings]
        if progress:
            progress(done, len(rows))
    with (partial / "pixels.npy").open("wb") as file:
        side = study.image.size
        np.save(file, np.array([t.pixels for t in kept.values()], dtype=np.uint8).reshape(-1, side, side))
        file.flush()
        os.fsync(file.fileno())
    devices = [t.device for t in kept.values()]
    index: dict[str, Any] = {"rows": list(kept), "devices": devices, "findings": _plain(findings)}
    if study.segments:
        targets = {position: t.target for position, t in kept.items() if t.target}
        save_targets(partial, list(targets.values()), study)
        index["said"] = _plain([(position, f) for position, t in targets.items() for f in t.findings])
    if study.image.auto:
        index["origins"] = [asdict(t.origin) for t in kept.values() if t.origin]
    (partial / "index.json").write_text(json.dumps(index), encoding="utf-8")
    try:
        partial.rename(place)
    except OSError:
        # Another process was faster: its folder holds the same pixels, and perhaps more.
        if not (place / "index.json").exists():
            raise
        shutil.rmtree(partial)


def _plain(findings: Iterable[tuple[int, Finding]]) -> list[tuple[int, dict[str, Any]]]:
    return [(position, asdict(finding)) for position, finding in findings]


def make_cache(cache: Path) -> None:
    """Make a cache's folder, for this account alone. One that is there keeps its rights: it may be of another use."""
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)


def _close(place: Path) -> None:
    """What an earlier release has left open to all accounts of this machine."""
    if place.stat().st_mode & 0o077:
        with suppress(PermissionError):  # of another account: that one's to close
            place.chmod(0o700)


def _sweep(cache: Path) -> None:
    """Remove what processes that are gone have left half done: it holds pixels of people."""
    for partial in cache.glob("**/*.partial"):
        owner = partial.name.split(".")[-2]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists() and Path("/proc/self").exists():
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink()


def _left_out(finding: Finding, row: ImageRow) -> Finding:
    """A fault of one image leaves that image out; it does not stop the site."""
    return replace(finding, severity="warning", row=row.row, remedy=f"{finding.remedy} (the image is left out)")


def _read_one(
    folder: Path,
    study: StudyConfig,
    row: ImageRow,
    calibration: Calibration | None,
    templates: tuple[Template, ...],
) -> Taken:
    frame = read_image(folder / row.image, calibration, row.frame, templates=templates)
    if study.segments:
        pixels, target = read_target(folder, row, frame, study)
        return Taken(pixels, frame.device, target)
    if study.image.auto:
        mask, origin = _finder(study).mask(frame, row, folder)
        return Taken(model_input(frame, mask, study.image, row.image), frame.device, origin=origin)
    mask = None
    if study.image.roi == "mask":
        if not row.mask:
            remedy = 'draw one, name it in images.csv, or use a study with roi = "none"'
            raise DataError(
                [Finding("error", "mask", IMAGES_FILE, "no mask", "a mask of the muscle", remedy, field="mask")]
            )
        mask = read_mask(folder / row.mask, frame, label=row.mask_label or None)
    return Taken(model_input(frame, mask, study.image, row.image), frame.device)


def _finder(study: StudyConfig) -> "Finder":
    from sarco_models.auto_masks import Finder  # with torch, which few studies need to read images

    return Finder.of(study)


def kept_part(cache: ImageCache, key: str, images: NDArray[np.int64], compute: Compute) -> NDArray[np.float16]:
    """What ``compute`` makes of these images; see :meth:`sarco_models.cohort.Cohort.kept`."""
    path = cache.folder / (f"{key}-{cache.tables.digest}.npy" if cache.tables else f"{key}.npy")
    pixels = Stack((cache.pixels,), (cache.tables,))
    if path.exists():
        return np.asarray(np.load(path, mmap_mode="r"))
    partial = path.with_suffix(f".{os.getpid()}.partial")
    result = None
    for start in range(0, max(len(images), 1), 64):  # once without images as well, for the shape
        chunk = images[start : start + 64]
        block = compute(pixels[chunk], chunk)
        if result is None:
            shape = (len(cache.pixels), *block.shape[1:])
            result = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)
        result[chunk] = block
    if result is not None:
        result.flush()
    partial.rename(path)
    return np.asarray(np.load(path, mmap_mode="r"))
