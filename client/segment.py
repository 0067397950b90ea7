"""``sarco-site segment``: a released model on a hospital's own images. Nothing is sent.

    masks/NAME.nii.gz     label map for ITK-SNAP (itk-snap-labels.txt has names and colours)
    masks/NAME.png        the same as a palette picture
    masks/NAME.json       outlines for correction in LabelMe; of a DICOM file with masks/NAME.tissue.png to draw on
    overlays/NAME.png     the frame with outlines, thickness and values
    measures.csv          a line for each muscle, and for each image without one
    index.html            all of it, to look through
    segment.jsonl         what was done already

NAME is the image's own name with its folders. A file that cannot be read is a line in the report, never the end. The
same command goes on where it stopped; existing files are left alone unless it is said.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from client.segment_asked import UNKNOWN, asks
from client.segment_inputs import Input, Spacings
from client.segment_journal import Journal, Record, Row
from client.segment_table import Done, table
from client.segment_writing import write_picture, write_text
from sarco_models.errors import ConfigError, DataError, SarcoError
from sarco_models.hints import Template
from sarco_models.image_cache import Progress
from sarco_models.images import Frame, read_image
from sarco_models.mask_files import (
    Pictured,
    label_descriptions,
    on_stored_frame,
    spacing_for_itk,
    write_labelme,
    write_nifti,
    write_png,
)
from sarco_models.mask_origins import FINDING_VERSION
from sarco_models.muscle import MuscleMeasures, measure
from sarco_models.overlays import Drawn, overlay, picture_size
from sarco_models.plausible import Quality, judge, largest_pieces
from sarco_models.released_segmenter import ReleasedSegmenter
from sarco_models.segmenter import Found, Segmenter

Format = Literal["nifti", "png", "labelme"]
FORMATS: tuple[Format, ...] = ("nifti", "png", "labelme")
MEASURES, PAGE, LABELS = "measures.csv", "index.html", "itk-snap-labels.txt"
NO_SPACING = "nothing was measured: millimetres per pixel are unknown (--mm-per-pixel, or calibration.csv)"
NOTHING_FOUND = "no muscle was found"


@dataclass(frozen=True)
class Options:
    """How images are read and what is written of them.

    Attributes:
        formats: of the masks.
        spacings: what the hospital says of pictures.
        templates: of its devices.
        overwrite: replace files that exist.
        largest: keep the largest piece of each muscle only, and say what was removed.
    """

    formats: tuple[Format, ...] = FORMATS
    spacings: Spacings = field(default_factory=lambda: Spacings({}, Path()))
    templates: tuple[Template, ...] = ()
    overwrite: bool = False
    largest: bool = False

    def saying(self, *, overwrite: bool, largest: bool) -> "Options":
        """The same, with the command's switches."""
        return replace(self, overwrite=overwrite, largest=largest)


@dataclass(frozen=True)
class Loaded:
    """A released model, and its network on the device where it computes."""

    released: ReleasedSegmenter
    segmenter: Segmenter

    @property
    def digest(self) -> str:
        """Names the model."""
        return self.released.digest

    @property
    def synthetic(self) -> bool:
        """Whether it is known to be trained on computer-made people."""
        return self.released.about.synthetic is True

    @property
    def names(self) -> tuple[str, ...]:
        """Muscle 1, 2, ... of the files of masks: of the study, also where the model is asked for one of them."""
        return self.segmenter.segmentation.names if asks(self.segmenter.segmentation) else self.segmenter.muscles

    def asked(self, image: Input) -> "Loaded":
        """The same, asked for the muscle that the image is of; as it is where it need not be."""
        return Loaded(self.released, self.segmenter.asking(image.muscle)) if image.muscle else self


def segment(images: Sequence[Input], model: Loaded, out: Path, options: Options, told: Progress) -> Done:
    """Find and measure muscles, and write masks, pictures and tables.

    Args:
        images: see :func:`client.segment_inputs.inputs`.
        model: what finds the muscles.
        out: folder of the results; made if need be, for its owner alone.
        options: see there.
        told: called with images done and all images.

    Raises:
        ConfigError: the folder cannot be written to, or holds results of another model.
    """
    try:
        out.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(f"{out}: {error.strerror}: name another folder for the results") from None
    journal = Journal(out)
    others = {r.model for r in journal.records.values()} - {model.digest}
    if others and not options.overwrite:
        raise ConfigError(
            f"{out}: holds results of model {min(others)[:12]}, and this one is {model.digest[:12]}: name another "
            "folder, or use --overwrite"
        )
    work = _Work(model, out, options, journal)
    keys = {image: work.key(image) for image in images}
    todo = [image for image in images if not work.stands(image, keys[image])]
    work.check_free(todo)
    for number, image in enumerate(todo):
        told(number, len(todo))
        work.one(image, keys[image])
    told(len(todo), len(todo))
    names = tuple(image.name for image in images)
    done = Done(journal.records, len(images) - len(todo), names, model.digest, model.synthetic)
    write_text(out / LABELS, label_descriptions([model.released.title(name) for name in model.names]))
    write_text(out / MEASURES, table(done))
    return done


# ---- one image -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Work:
    """Everything that one image needs."""

    model: Loaded
    out: Path
    options: Options
    journal: Journal

    def key(self, image: Input) -> str:
        """Digest of everything that an image's results follow from; "" where it cannot be read."""
        said = f"{self.model.digest} {FINDING_VERSION} {self.options.largest} {self.options.formats}"
        segmenter = self.model.asked(image).segmenter
        asked = f" {segmenter.asked}" if segmenter.segmentation.classes == "asked" else ""
        digest = hashlib.sha256(f"{said}{asked}".encode())
        spacing = self.options.spacings.of(image)
        digest.update(json.dumps(asdict(spacing) if spacing else None).encode())
        try:
            with image.path.open("rb") as file:
                return hashlib.file_digest(file, lambda: digest).hexdigest()
        except OSError:
            return ""  # it is said when the image's turn comes

    def stands(self, image: Input, key: str) -> bool:
        """Whether the image was done with the same bytes, model and options, and its files are there."""
        before = self.journal.records.get(image.name)
        if before is None or before.begun or before.fault or before.key != key or self.options.overwrite:
            return False
        # --mm-per-pixel changes nothing where the file or calibration.csv has said it.
        given, measured = self.options.spacings.mm_per_pixel, all(row.mm_per_pixel_row for row in before.rows)
        as_before = before.assumed == given if before.assumed else measured or given is None
        return as_before and all((self.out / name).is_file() for name in before.files)

    def check_free(self, images: Iterable[Input]) -> None:
        """Refuse to begin where files lie that we did not leave half done: nobody's work is written over.

        Raises:
            ConfigError: see there.
        """
        if self.options.overwrite:
            return
        begun = {name for name, record in self.journal.records.items() if record.begun}
        there = [f for i in images if i.name not in begun for f in self._files(i) if (self.out / f).exists()]
        if there:
            more = f" and {len(there) - 1} more files" if there[1:] else ""
            raise ConfigError(
                f"{self.out / there[0]}{more}: made of another image or with other options, and may hold corrections: "
                "use --overwrite, or another folder; nothing was changed"
            )

    def one(self, image: Input, key: str) -> None:
        """Do one image, and write down what became of it."""
        self.journal.append(Record(image.name, key, self.model.digest, begun=True))
        try:
            frame, assumed = self._frame(image)
            rows = replace(self, model=self.model.asked(image))._results(image, frame)
            size = picture_size(frame, synthetic=self.model.synthetic)
            files = tuple(self._files(image))
            record = Record(image.name, key, self.model.digest, rows, files, size=size, assumed=assumed)
        except (SarcoError, OSError) as error:
            fault = _plain(error, image)
            record = Record(image.name, key, self.model.digest, (Row(image.name, reasons=(fault,)),), fault=fault)
        self.journal.append(record)

    def _files(self, image: Input) -> Iterator[str]:
        suffixes = {"nifti": ".nii.gz", "png": ".png", "labelme": ".json"}
        yield from (f"masks/{image.name}{suffixes[format_]}" for format_ in self.options.formats)
        yield f"overlays/{image.name}.png"

    def _frame(self, image: Input) -> tuple[Frame, tuple[float, float] | None]:
        """The image, and the spacing that only the command has said of it."""
        frame = read_image(image.path, self.options.spacings.of(image), templates=self.options.templates)
        assumed = self.options.spacings.assumed(image)
        if frame.mm_per_pixel or assumed is None:
            return frame, None
        return read_image(image.path, assumed, templates=self.options.templates), assumed.mm_per_pixel

    def _results(self, image: Input, frame: Frame) -> tuple[Row, ...]:
        if asks(self.model.segmenter.segmentation) and self.model.segmenter.asked is None:
            raise ConfigError(UNKNOWN)
        found, notes = self._cleaned(self.model.segmenter.find(frame, image.name))
        numbers = [n for n in range(1, len(found.probabilities)) if found.mask(n).any()]
        rows, drawn = [], []
        for number in numbers:
            row, muscle = self._muscle(image, frame, found, number)
            rows.append(row)
            drawn.append(muscle)
        self._write_masks(image, frame, found, accepted=bool(rows) and all(row.accepted for row in rows))
        if rows and not frame.mm_per_pixel:
            notes = (*notes, f"{NO_SPACING[0].upper()}{NO_SPACING[1:]}.")
        picture = overlay(frame, drawn, synthetic=self.model.synthetic, note=" ".join(notes))
        write_picture(self.out / f"overlays/{image.name}.png", picture)
        nothing = f"no {self.model.released.title(image.muscle)} was found" if image.muscle else NOTHING_FOUND
        return tuple(rows) or (_row(image, frame, reasons=(nothing,)),)

    def _cleaned(self, found: Found) -> tuple[Found, tuple[str, ...]]:
        if not self.options.largest:
            return found, ()
        cleaned = largest_pieces(found.classes)
        titles = [self.model.released.title(name) for name in self.model.segmenter.muscles]
        left = Found(cleaned.classes, found.probabilities, found.view, found.windows, found.agreement, found.blank)
        return left, tuple(f"{words[0].upper()}{words[1:]}." for words in cleaned.words(titles))

    def _muscle(self, image: Input, frame: Frame, found: Found, number: int) -> tuple[Row, Drawn]:
        """Line and drawing of one muscle."""
        name, mm, mask = self.model.segmenter.muscles[number - 1], frame.mm_per_pixel, found.mask(number)
        about = self.model.released.about
        quality = judge(found, number, mm, drawn=about.shapes.get(name), threshold=about.threshold)
        measured = measure(mask, frame.pixels, mm, file=image.name) if mm else None
        reasons = quality.reasons if mm else (*quality.reasons, NO_SPACING)
        row = _row(image, frame, reasons, muscle=name, score=quality.score, accepted=quality.accepted)
        if measured:
            row = replace(row, **{name: getattr(measured, name) for name in _MEASURES})
        line = measured.thickness_line if measured else None
        words = _words(measured, quality)
        shown = self.model.names.index(name) + 1
        return row, Drawn(self.model.released.title(name), shown, mask, line, words, quality.accepted)

    def _write_masks(self, image: Input, frame: Frame, found: Found, *, accepted: bool) -> None:
        names = self.model.names
        numbers = np.array([0, *(names.index(name) + 1 for name in self.model.segmenter.muscles)], dtype=np.uint8)
        classes = numbers[found.classes]
        base, stored = self.out / "masks" / image.name, on_stored_frame(classes, frame)
        base.parent.mkdir(parents=True, exist_ok=True)
        if "nifti" in self.options.formats:
            spacing = spacing_for_itk(image.path, frame.mm_per_pixel)
            write_nifti(base.with_name(base.name + ".nii.gz"), stored, spacing, overwrite=True)
        if "png" in self.options.formats:
            write_png(base.with_name(base.name + ".png"), stored, overwrite=True)
        if "labelme" in self.options.formats:
            page = base.with_name(base.name + ".json")
            flags = {"accepted": accepted}
            if frame.facts.format == "DICOM":  # LabelMe opens pictures only
                tissue = base.with_name(base.name + ".tissue.png")
                write_picture(tissue, Image.fromarray(frame.pixels))
                write_labelme(page, classes, names, Pictured(tissue.name, flags), overwrite=True)
            else:
                where = Pictured(_relative(image.path, page.parent), flags)
                write_labelme(page, stored, names, where, overwrite=True)


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:  # on another drive
        return str(path.resolve())


_MEASURES = ("thickness_mm", "csa_cm2", "width_mm", "echo_intensity")


def _row(image: Input, frame: Frame, reasons: tuple[str, ...], **known: Any) -> Row:
    row, column = frame.mm_per_pixel or (None, None)
    return Row(image.name, mm_per_pixel_row=row, mm_per_pixel_column=column, reasons=reasons, **known)


def _words(measured: MuscleMeasures | None, quality: Quality) -> str:
    parts = []
    if measured:
        parts += [f"thickness {measured.thickness_mm:.1f} mm", f"area {measured.csa_cm2:.2f} cm²"]
        parts += [f"width {measured.width_mm:.0f} mm", f"echo intensity {measured.echo_intensity or 0:.0f}"]
    return "  ·  ".join([*parts, f"score {quality.score:.2f}", *quality.reasons])


def _plain(error: Exception, image: Input) -> str:
    """In one line, without the image's name, which stands beside it."""
    if isinstance(error, DataError):
        by_rule = {"spacing": "say it with --mm-per-pixel or in calibration.csv"}
        return "; ".join(f"{f.seen}; expected {f.expected}; {by_rule.get(f.rule, f.remedy)}" for f in error.findings)
    text = str(error) if isinstance(error, SarcoError) else f"{getattr(error, 'strerror', '') or error}"
    return " ".join(text.replace(str(image.path), image.name).split())
