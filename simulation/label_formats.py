"""Masks with several muscles, as programs save them: LabelMe 5 polygons, ITK-SNAP label maps, palette PNG.

A muscle may have several outlines, and a hospital draws only the muscles that it annotates. Numbers of muscles are
those of ``NUMBERS`` in all hospitals; LabelMe has words instead.
"""

from collections.abc import Sequence
from io import BytesIO
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from sarco_models.mask_files import colour_of
from simulation.anatomy import MUSCLES
from simulation.formats import labelme_bytes, labelme_shape, nifti_mask_bytes

Format = Literal["labelme", "itksnap", "palette"]
Outlined = tuple[str, NDArray[np.bool_]]
"""A muscle and (height, width) where it lies; a muscle may come twice."""

SUFFIX: dict[Format, str] = {"labelme": ".json", "itksnap": ".nii.gz", "palette": ".png"}
DESCRIPTIONS_FILE = "labels.txt"
"""Of the folder with ITK-SNAP's masks: what the numbers mean, as ITK-SNAP exports it."""

NUMBERED = ("biceps_brachii", "triceps_brachii", "rectus_abdominis", "rectus_femoris", "peroneus_longus_brevis")
NUMBERS = {name: k for k, name in enumerate(NUMBERED, start=1)}
WORDS = dict(zip(NUMBERED, ("biceps", "triceps", "RA", "RF", "PLPB"), strict=True))
TITLES = dict(
    zip(
        NUMBERED,
        ("Biceps brachii", "Triceps brachii", "Rectus abdominis", "Rectus femoris", "Peroneus longus and brevis"),
        strict=True,
    )
)
if set(NUMBERED) != set(MUSCLES):
    raise RuntimeError("a muscle has no number")


def label_in(kind: Format, muscle: str) -> str:
    """What the mask of a format calls a muscle, as the column ``mask_label`` says it."""
    return WORDS[muscle] if kind == "labelme" else str(NUMBERS[muscle])


def mask_bytes(kind: Format, drawn: Sequence[Outlined], size: tuple[int, int], image_path: str) -> bytes:
    """The mask's file; a muscle without a pixel is left out, and nothing drawn is a mask without labels.

    Args:
        kind: which program.
        drawn: outlines that do not overlap.
        size: height and width of the frame.
        image_path: of the frame, relative to the mask.
    """
    seen = [(muscle, mask) for muscle, mask in drawn if mask.any()]
    if kind == "labelme":
        names = [muscle for muscle, _ in seen]
        shapes = [
            labelme_shape(WORDS[muscle], mask, group=NUMBERS[muscle] if names.count(muscle) > 1 else None)
            for muscle, mask in seen
        ]
        return labelme_bytes(shapes, size, image_path, {"checked": True})
    numbers = np.zeros(size, np.uint8)
    for muscle, mask in seen:
        numbers[mask] = NUMBERS[muscle]
    return nifti_mask_bytes(numbers) if kind == "itksnap" else _palette_png(numbers)


def _palette_png(numbers: NDArray[np.uint8]) -> bytes:
    """Indices are the muscles' numbers, index 0 is black."""
    picture = Pillow.fromarray(numbers)
    picture.putpalette([0, 0, 0, *(level for number in NUMBERS.values() for level in colour_of(number))])
    buffer = BytesIO()
    picture.save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def itksnap_descriptions() -> bytes:
    """The label descriptions as ITK-SNAP 3.8 exports them."""
    rule = "#" * 48
    head = (
        f"{rule}\n# ITK-SnAP Label Description File\n# File format: \n"
        "# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL\n# Fields: \n"
        "#    IDX:   Zero-based index \n#    -R-:   Red color component (0..255)\n"
        "#    -G-:   Green color component (0..255)\n#    -B-:   Blue color component (0..255)\n"
        "#    -A-:   Label transparency (0.00 .. 1.00)\n#    VIS:   Label visibility (0 or 1)\n"
        "#    IDX:   Label mesh visibility (0 or 1)\n#  LABEL:   Label description \n"
        f"{rule}\n"
    )
    rows = [(0, (0, 0, 0), 0, "Clear Label")]
    rows += [(number, colour_of(number), 1, TITLES[name]) for name, number in NUMBERS.items()]
    lines = (
        f'{number:5}   {red:3}  {green:3}  {blue:3}        {shown}  {shown}  {shown}    "{title}"\n'
        for number, (red, green, blue), shown, title in rows
    )
    return (head + "".join(lines)).encode()
