"""The best, the median and the worst found outline of each muscle beside the drawn one: synthetic people only.

Nobody chooses: of the images of held-out people that show one whole muscle those with the highest, the middle and the
lowest Dice are drawn. The worst is there because a report without it would flatter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sarco_models.aims import finding
from sarco_models.cohort import HeldOut
from sarco_models.mask_files import outlines
from sarco_models.overlays import outlined
from sarco_models.segmentation import OUTSIDE
from sarco_models.segmentation_loss import merged
from sarco_models.segmentation_reader import SegmentationReader
from server.evaluation import released_reader
from server.muscle_scores import IMAGES_FILE, SeenImage, read_muscle_images
from server.runs import Run
from simulation.arms import Arm
from simulation.image_rows import image_rows
from simulation.muscle_scoring import folder_of
from simulation.own_norms import own_norms

PICTURE = "examples.png"
RANKS = {"worst": 0.0, "median": 0.5, "best": 1.0}
SYNTHETIC = "SYNTHETIC: computer-made images of persons who do not exist"
_TILE, _GAP, _SIDE, _HEAD = 300, 8, 170, 62
_PAPER, _INK, _WARN = (255, 255, 255), (31, 35, 40), (179, 38, 30)
_FOUND, _DRAWN = (86, 180, 233), (230, 159, 0)  # Okabe and Ito (2008)
_DASH = 5.0


@dataclass(frozen=True, eq=False)
class Example:
    """One muscle of one image.

    Attributes:
        pixels: (size, size) what the network sees.
        found, drawn: (size, size).
        words: beneath it.
    """

    pixels: NDArray[np.uint8]
    found: NDArray[np.bool_]
    drawn: NDArray[np.bool_]
    words: str


def write_examples(arm: Arm, out: Path) -> Path | None:
    """Draw a line of three images for each muscle, of the cohort that is scored first; None where nothing is known.

    Args:
        arm: finished, of synthetic people.
        out: folder of the experiment, with the scores of all images.
    """
    held_out = arm.held_out()
    name = next(iter(held_out))
    wanted = (arm.name, arm.study.training.seed, name)
    images = [one for one in read_muscle_images(out / IMAGES_FILE) if (one.arm, one.seed, one.site) == wanted]
    chosen = {muscle: ranked(images, muscle) for muscle in dict.fromkeys(one.seen.muscle for one in images)}
    chosen = {muscle: found for muscle, found in chosen.items() if found}
    if not chosen:
        return None
    run = Run.open(arm.folder)
    reader = finding(released_reader(run, own_norms(arm, run, name)))
    files = [row.image for row in image_rows(folder_of(arm, name), held_out[name].cohort, arm.study)]
    titles = {m.name: m.title for m in reader.segmentation.muscles}
    lines = {
        titles[muscle]: {
            rank: _example(run.model.net, reader, held_out[name], files.index(one.image), one)
            for rank, one in found.items()
        }
        for muscle, found in sorted(chosen.items(), key=lambda item: list(titles).index(item[0]))
    }
    sheet(lines).save(out / PICTURE)
    return out / PICTURE


def ranked(images: Sequence[SeenImage], muscle: str) -> dict[str, SeenImage]:
    """The worst, the median and the best image of a muscle; those that show one whole muscle, drawn by somebody."""
    known = [
        one for one in images if one.seen.muscle == muscle and one.seen.drawn and one.seen.overlap.dice is not None
    ]
    known.sort(key=lambda one: (one.seen.overlap.dice or 0.0, one.image))
    return {rank: known[round(at * (len(known) - 1))] for rank, at in RANKS.items()} if known else {}


def _example(net: torch.nn.Module, reader: SegmentationReader, people: HeldOut, image: int, one: SeenImage) -> Example:
    alone = np.array([image])
    pixels, target = people.cohort.pixels[alone], people.cohort.targets[alone][0]
    annotated = torch.from_numpy(np.array(people.cohort.annotated[alone], dtype=np.bool_))
    asked = reader.asked_for(people, alone)
    net.eval()
    with torch.no_grad():
        seen = torch.from_numpy(pixels[:, None]).float().to(reader.device) / 255
        logits = net(seen, None if asked is None else asked.to(reader.device))
        classes = merged(logits, annotated.to(reader.device)).argmax(1)[0].cpu().numpy()
    muscles = [reader.segmentation.names[m] for m in reader.muscles_of(people, image)]
    number = muscles.index(one.seen.muscle) + 1
    agreed = one.seen.overlap
    words = f"Dice {agreed.dice:.3f}" + (
        f", HD95 {agreed.hd95_mm:.1f} mm" if agreed.hd95_mm is not None else ", missed"
    )
    return Example(pixels[0], (classes == number) & (target != OUTSIDE), target == number, words)


# --- the sheet --------------------------------------------------------------------------------------------------------


def sheet(lines: Mapping[str, Mapping[str, Example]]) -> Image.Image:
    """A line for each title, a column for each rank, and the mark above."""
    tall = _TILE + 24 + _GAP
    page = Image.new("RGB", (_SIDE + 3 * (_TILE + _GAP), _HEAD + len(lines) * tall), _PAPER)
    draw = ImageDraw.Draw(page)
    draw.rectangle((0, 0, page.width, 28), fill=_WARN)
    draw.text((page.width / 2, 14), SYNTHETIC, fill=_PAPER, font=_font(15), anchor="mm")
    for column, rank in enumerate(RANKS):
        draw.text((_SIDE + column * (_TILE + _GAP), 46), rank.capitalize(), fill=_INK, font=_font(17), anchor="lm")
    for line, (title, examples) in enumerate(lines.items()):
        y = _HEAD + line * tall
        draw.multiline_text((4, y), "\n".join(_broken(title)), fill=_INK, font=_font(17))
        for column, rank in enumerate(RANKS):
            x = _SIDE + column * (_TILE + _GAP)
            page.paste(_tile(examples[rank]), (x, y))
            draw.text((x, y + _TILE + 12), examples[rank].words, fill=_INK, font=_font(14), anchor="lm")
    return page


def _broken(title: str) -> list[str]:
    lines = [""]
    for word in (title[:1].upper() + title[1:]).split():
        if lines[-1] and _font(17).getlength(f"{lines[-1]} {word}") > _SIDE - 12:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _tile(example: Example) -> Image.Image:
    scale = _TILE / len(example.pixels)
    grey = cv2.resize(example.pixels, (_TILE, _TILE), interpolation=cv2.INTER_CUBIC)
    tile = Image.fromarray(np.asarray(grey, dtype=np.uint8)).convert("RGB")
    draw = ImageDraw.Draw(tile)
    for mask, colour, dash in ((example.drawn, _DRAWN, None), (example.found, _FOUND, _DASH)):
        for outline in outlines(mask):
            outlined(draw, outline * scale, colour, dash=dash)
    return tile


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
