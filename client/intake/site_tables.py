"""The tables of a site's folder, from what was converted and copied: written whole, and only when they change."""

import datetime
import os
from collections.abc import Iterable, Iterator
from collections.abc import Mapping as Readonly
from dataclasses import dataclass
from pathlib import Path

from client.intake.matching import Owned, muscle_of_image
from client.intake.people import People
from client.intake.private import csv_text, keyed
from client.intake.transfer import Record
from client.mapping import ImageRules
from sarco_models.image_list import ANNOTATED
from sarco_models.schema import IMAGE_COLUMNS, IMAGES_FILE, PARTICIPANTS_FILE
from sarco_models.words import date, side

CALIBRATION_FILE = "calibration.csv"
CALIBRATION_COLUMNS = ("image", "x0", "y0", "x1", "y1", "mm_per_pixel_row", "mm_per_pixel_column", "device")

_LONGEST_SHIFT_DAYS = 365


@dataclass(frozen=True)
class Shown:
    """An image of the source and what became of it.

    Attributes:
        owned: whose it is, and what path and list say of it.
        record: its copies.
    """

    owned: Owned
    record: Record


@dataclass(frozen=True)
class RowRules:
    """How a row of images.csv is written.

    Attributes:
        images: of the mapping.
        day_first: how 5/3/2024 is meant in a list of images; None = not known.
        secret: of this site.
        annotated: there is a column for the muscles that were looked for.
    """

    images: ImageRules
    day_first: bool | None
    secret: bytes
    annotated: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Of images.csv."""
        return (*IMAGE_COLUMNS, ANNOTATED) if self.annotated else IMAGE_COLUMNS

    def day(self, day: datetime.date | None, person: str) -> str:
        """ISO 8601, "" where nothing is known or kept."""
        rule = self.images.exam_date
        if day is None or rule == "none":
            return ""
        if rule == "month":
            day = day.replace(day=1)
        if rule == "shifted":
            step = int.from_bytes(keyed(self.secret, "shift", person)[:8]) % _LONGEST_SHIFT_DAYS
            day -= datetime.timedelta(days=1 + step)
        return day.isoformat()


def write_site_tables(
    folder: Path, people: People, names: Readonly[str, str], images: Iterable[Shown], rules: RowRules
) -> None:
    """Write participants.csv, calibration.csv and images.csv, in this order: an image is named when all else is there.

    Args:
        folder: of the site.
        people: id of the hospital -> cells.
        names: id of the hospital -> participant_id.
        images: in any order.
        rules: how a row of images.csv is written.
    """
    shown = sorted(images, key=lambda image: (image.record.person, image.record.number))
    rows = sorted((names[id_], *cells) for id_, cells in people.rows.items())
    write(folder / PARTICIPANTS_FILE, csv_text(("participant_id", *people.columns), rows))
    calibrations = list(_calibrations(shown))
    if calibrations or (folder / CALIBRATION_FILE).exists():
        write(folder / CALIBRATION_FILE, csv_text(CALIBRATION_COLUMNS, calibrations))
    if shown or (folder / IMAGES_FILE).exists():
        cells = [[row.get(column, "") for column in rules.columns] for row in _image_rows(shown, rules)]
        write(folder / IMAGES_FILE, csv_text(rules.columns, cells))


def _calibrations(shown: Iterable[Shown]) -> Iterator[tuple[object, ...]]:
    for image in shown:
        for copy in image.record.outcome.copies:
            if copy.calibration:
                region = copy.calibration.region or ("",) * 4
                mm = copy.calibration.mm_per_pixel
                yield (copy.image, *region, *(map(repr, mm) if mm else ("", "")), copy.calibration.device)


def _image_rows(shown: Iterable[Shown], rules: RowRules) -> Iterator[dict[str, str]]:
    for image in shown:
        owned, outcome = image.owned, image.record.outcome
        day = date(owned.listed.exam_date, day_first=rules.day_first)
        if day is None and outcome.day:
            day = datetime.date.fromisoformat(outcome.day)
        for copy in outcome.copies:
            yield {
                "image": copy.image,
                "participant_id": image.record.person,
                "muscle": muscle_of_image(owned, rules.images),
                "side": side(owned.listed.side) or owned.side or outcome.side or rules.images.side,
                "mask": copy.mask,
                "exam_date": rules.day(day, image.record.person),
                "mask_label": copy.mask_label,
                ANNOTATED: copy.annotated,
            }


def write(path: Path, text: str) -> bool:
    """Whole or not at all; a file that says so already is left alone. True when it was written."""
    content = text.encode()
    if path.is_file() and path.read_bytes() == content:
        return False
    partial = path.with_name(f"{path.name}.part")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return True
