"""What was segmented already, one line for each image, so that a command that was killed goes on where it stopped.

A line is written before an image's files ("begun") and after them. Files of an image that was begun and never finished
are ours to write again; any other file that is there may hold a person's corrections, and is left alone.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from sarco_models.errors import ConfigError

FILE = "segment.jsonl"


@dataclass(frozen=True)
class Row:
    """One found muscle, or one image without: a line of measures.csv.

    Attributes:
        image: name of the image's results.
        muscle: its name; "" where none was found, or the image could not be read.
        thickness_mm: None where it was not measured; so are the next three.
        csa_cm2: cross-sectional area.
        width_mm: along the muscle.
        echo_intensity: mean grey level.
        mm_per_pixel_row: of the image; None = unknown.
        mm_per_pixel_column: likewise.
        score: 0 to 1; None where nothing was found.
        accepted: whether the score reaches the model's threshold.
        reasons: what speaks against the mask, or why there is none.
    """

    image: str
    muscle: str = ""
    thickness_mm: float | None = None
    csa_cm2: float | None = None
    width_mm: float | None = None
    echo_intensity: float | None = None
    mm_per_pixel_row: float | None = None
    mm_per_pixel_column: float | None = None
    score: float | None = None
    accepted: bool = False
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """What became of one image.

    Attributes:
        image: name of its results.
        key: digest of its bytes, the model and the options.
        model: digest of the model.
        rows: of measures.csv; empty as long as the image is only begun.
        files: that were written, relative to the folder.
        begun: its files are being written.
        fault: why there are none; "" where there are.
        size: width and height of the overlay above its caption.
        assumed: millimetres per pixel (row, column) that the command gave, where nothing else said them.
    """

    image: str
    key: str
    model: str
    rows: tuple[Row, ...] = ()
    files: tuple[str, ...] = ()
    begun: bool = False
    fault: str = ""
    size: tuple[int, int] = (0, 0)
    assumed: tuple[float, float] | None = None


class Journal:
    """The records of one folder of results, by image; the last one of an image counts."""

    def __init__(self, folder: Path) -> None:
        """Read what is there, and cut off a last line that a crash left without its end.

        Raises:
            ConfigError: the file is something else.
        """
        self.path = folder / FILE
        self.records: dict[str, Record] = {}
        data = self.path.read_bytes() if self.path.is_file() else b""
        whole = data[: data.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                record = _record(line.decode())
            except (ValueError, TypeError, KeyError, AttributeError):
                raise ConfigError(
                    f"{self.path}, line {number}: is no line of ours: name another folder for the results"
                ) from None
            self.records[record.image] = record
        if len(whole) < len(data):
            os.truncate(self.path, len(whole))

    def append(self, record: Record) -> None:
        """Keep a record, also after a power cut."""
        self.records[record.image] = record
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(record)) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _record(line: str) -> Record:
    found = json.loads(line)
    rows = tuple(Row(**{**row, "reasons": tuple(row["reasons"])}) for row in found.pop("rows"))
    width, height = found["size"]
    assumed = tuple(found["assumed"]) if found.get("assumed") else None
    return Record(
        **{**found, "rows": rows, "files": tuple(found["files"]), "size": (width, height), "assumed": assumed}
    )
