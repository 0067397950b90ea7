"""The folders of an ingest: they lie apart, and nothing is written into one that ingest did not make."""

from pathlib import Path

from client.intake.copying import PART
from client.intake.private import keyed, open_private, private_folder
from client.intake.site_tables import write
from sarco_models.errors import ConfigError

MARKER = ".sarco-ingest"
"""In every folder that ingest has made; without it a folder is somebody else's."""


def check_apart(source: Path, data: Path) -> None:
    """Refuse folders inside each other: the source is never written to, and a copy is never a source."""
    if not source.is_dir():
        raise ConfigError(f"{source}: there is no such folder; name the one that holds your images and your table")
    here, there = source.resolve(), data.resolve()
    if here == there or here.is_relative_to(there) or there.is_relative_to(here):
        raise ConfigError(f"{data} and {source} lie in one another: name a folder for the data outside the source")


def claimed(data: Path) -> bytes:
    """Mark the folder as made by ingest, or find that it is; returns the site's secret."""
    marker, private = data / MARKER, private_folder(data)
    if not marker.exists() and data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise ConfigError(f"{data} is not empty and was not made by this command: choose another folder for the data")
    if marker.exists() and not private.exists():
        raise ConfigError(f"{private} is gone, and with it who P0001 is: put it back, or choose another folder")
    secret = open_private(private)
    mark = f"{keyed(secret, 'marker').hex()[:32]}\n"
    if marker.exists() and marker.read_text(encoding="ascii", errors="replace") != mark:
        raise ConfigError(f"{private} belongs to other data: put the right one back, or choose another folder")
    data.mkdir(parents=True, exist_ok=True)
    write(marker, mark)
    return secret


def sweep(data: Path) -> None:
    """Remove what an interrupted run left half written."""
    for left in [*data.glob(f"*{PART}"), *data.glob(f"*/*{PART}")]:
        left.unlink()
