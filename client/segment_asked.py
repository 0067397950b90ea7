"""Which muscle each image is of, for a model that has to be asked: by the command, by images.csv, or by names of files.

Nothing is guessed: where none of them says it, or a name says two, the image is told and left out.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from client.intake.muscle_labels import muscle_of, path_words
from client.intake.path_words import muscle_in
from client.segment_inputs import Input
from sarco_models.errors import ConfigError, DataError
from sarco_models.image_list import IMAGES_FILE, examine_images
from sarco_models.segmentation import SegmentationConfig

UNKNOWN = "which muscle it shows is not known: name it in the file's name, its folder's or images.csv, or with --muscle"
_ABOVE = 3  # folders above an image in which images.csv is looked for


def asks(segmentation: SegmentationConfig) -> bool:
    """Whether the model has to be told which muscle an image is of."""
    return segmentation.classes == "asked" and len(segmentation.muscles) > 1


def with_muscles(images: Sequence[Input], segmentation: SegmentationConfig, said: str = "") -> tuple[Input, ...]:
    """The images with their muscle, by the study's name; "" where nobody says it.

    Args:
        images: see :func:`client.segment_inputs.inputs`.
        segmentation: of the model's study.
        said: by the command, of all images; it comes first.

    Raises:
        ConfigError: ``said`` is none of the study's muscles, or nothing is said of any image.
    """
    if said:
        muscle = muscle_of(said, segmentation)
        if not muscle:
            known = ", ".join(segmentation.names)
            raise ConfigError(f"{said!r} is none of the muscles that this model finds: {known}")
        return tuple(replace(image, muscle=muscle) for image in images)
    words = path_words(segmentation, [image.path.resolve().as_posix() for image in images])
    rows = cache(_rows)

    def muscle_on(image: Input) -> str:
        listed = _listed(image.path, rows)
        return muscle_of(listed, segmentation) if listed else muscle_in(image.path.resolve().as_posix(), words)

    found = tuple(replace(image, muscle=muscle_on(image)) for image in images)
    if not any(image.muscle for image in found):
        raise ConfigError(
            f"--muscle is missing: this model finds the muscle that it is asked for, one of "
            f"{', '.join(segmentation.names)}, and neither the images' names nor an {IMAGES_FILE} say which; name it "
            "with --muscle, or in the names of files or folders"
        )
    return found


def told(images: Sequence[Input], titles: dict[str, str]) -> Iterator[str]:
    """What the images are taken for, in a line, where the command did not say it."""
    count = Counter(image.muscle for image in images if image.muscle)
    if count:
        yield "asked for, as names or images.csv say: " + ", ".join(
            f"{titles[m]} on {n}" for m, n in sorted(count.items())
        )


def _listed(path: Path, rows: Callable[[Path], dict[Path, str]]) -> str:
    """The muscle that the next images.csv above an image says it is of, as it is written there; "" = not said."""
    place = path.resolve()
    return next((rows(folder)[place] for folder in place.parents[:_ABOVE] if place in rows(folder)), "")


def _rows(folder: Path) -> dict[Path, str]:
    """Image -> the muscle that a folder's images.csv says it is of."""
    if not (folder / IMAGES_FILE).is_file():
        return {}
    try:
        rows, _ = examine_images(folder / IMAGES_FILE, ())
    except DataError:
        return {}  # another table of that name
    return {(folder / row.image).resolve(): row.muscle for row in rows}
