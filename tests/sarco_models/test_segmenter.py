"""A muscle is found where it lies on the frame, whatever window the network looks through."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sarco_models.config import StudyConfig
from sarco_models.errors import ConfigError, MissingSpacing
from sarco_models.frames import Frame
from sarco_models.overlap import dice
from sarco_models.segmenter import Segmenter
from tests.sites import study

MUSCLES = [{"name": "rectus_femoris"}, {"name": "biceps"}]


def segmentation_study(*, flip: float = 0.5, **image: Any) -> StudyConfig:
    changes: dict[str, Any] = {
        "augmentation": {"horizontal_flip": flip},
        "segmentation": {"muscles": MUSCLES},
        "image": {"roi": "none", "size": 64, "framing": "letterbox", **image},
        "model": {"modalities": ["image"], "hidden_units": 8},
        "training": {"balance_classes": False},
    }
    text = study(training={"balance_classes": False}).model_dump(mode="json") | {}
    text.pop("label")
    return StudyConfig.model_validate_json(_json(text, changes))


def _json(text: dict[str, Any], changes: dict[str, Any]) -> str:
    import json

    from sarco_models.config import merged

    return json.dumps(merged(text, changes))


class Bright(nn.Module):
    """Class 1 where it is bright, class 2 where it is brighter still, or 1 alone where it is asked for one of them.

    And how many images it saw at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1))
        self.seen: list[int] = []

    def forward(self, images: Tensor, asked: Tensor | None) -> Tensor:
        self.seen.append(len(images))
        x = images[:, 0] + self.shift
        maps = 40 * torch.stack([0.35 - x, torch.zeros_like(x) + 0.1 - (x - 0.6).abs(), x - 0.8], dim=1)
        return maps if asked is None else torch.stack([maps[:, 0], maps[torch.arange(len(x)), asked + 1]], dim=1)


def muscle(shape: tuple[int, int], mm: float | None = 0.2) -> tuple[Frame, NDArray[np.bool_]]:
    """A frame with a bright ellipse, and where it is."""
    height, width = shape
    rows, columns = np.mgrid[:height, :width] + 0.5
    inside = ((rows - 0.4 * height) / (0.2 * height)) ** 2 + ((columns - 0.45 * width) / (0.3 * width)) ** 2 < 1
    pixels = np.where(inside, 153, 30).astype(np.uint8)
    return Frame(pixels, (mm, mm) if mm else None, "", (0, 0), shape), inside


@pytest.mark.parametrize("framing", ["letterbox", "paper", "physical"])
def test_a_muscle_is_found_where_it_lies(framing: str) -> None:
    frame, inside = muscle((150, 200))
    found = Segmenter(segmentation_study(framing=framing, window_mm=45.0), Bright()).find(frame)
    assert found.classes.shape == frame.pixels.shape
    assert (dice(found.mask(1), inside) or 0) > 0.97
    assert not found.mask(2).any()
    np.testing.assert_allclose(found.probabilities.sum(axis=0), 1, atol=1e-5)
    assert found.windows == 1


def test_a_panorama_is_seen_through_windows_that_cover_all_of_it() -> None:
    frame, inside = muscle((150, 700))  # 30 x 140 mm, the window is 45
    found = Segmenter(segmentation_study(framing="physical", window_mm=45.0), Bright()).find(frame)
    assert found.windows > 3
    assert (dice(found.mask(1), inside) or 0) > 0.97
    np.testing.assert_allclose(found.probabilities.sum(axis=0), 1, atol=1e-5)


def test_entropy_is_highest_along_the_edge() -> None:
    frame, _ = muscle((150, 200))
    found = Segmenter(segmentation_study(), Bright()).find(frame)
    edge = np.zeros(frame.pixels.shape, dtype=bool)
    mask = found.mask(1)
    edge[1:] = mask[1:] != mask[:-1]
    assert found.entropy[edge].mean() > 5 * found.entropy[~edge].mean()
    assert 0 <= found.entropy.min() <= found.entropy.max() <= 1


def test_frames_are_found_alike_alone_and_in_company() -> None:
    frames = [muscle((150, 200))[0], muscle((90, 120))[0], muscle((150, 700))[0], muscle((64, 64))[0]]
    segmenter = Segmenter(segmentation_study(framing="physical", window_mm=45.0), Bright(), rows=3)
    together = list(segmenter.find_all((frame, "") for frame in frames))
    assert len(together) == 4
    for frame, found in zip(frames, together, strict=True):
        np.testing.assert_array_equal(found.classes, segmenter.find(frame).classes)


def test_the_network_sees_so_many_images_at_a_time() -> None:
    net = Bright()
    list(Segmenter(segmentation_study(), net, rows=2).find_all((muscle((60, 80))[0], "") for _ in range(5)))
    assert net.seen == [2, 2, 1]


def test_a_network_that_knows_no_side_agrees_with_itself_mirrored() -> None:
    frame, inside = muscle((150, 200))
    found = Segmenter(segmentation_study(), Bright(), mirror=True).find(frame)
    assert found.agreement[0] == pytest.approx(1, abs=0.01)
    assert found.agreement[1] is None, "neither found the second muscle"
    assert (dice(found.mask(1), inside) or 0) > 0.97


class LeftSide(Bright):
    """Finds nothing on the right: there it would be another muscle."""

    def forward(self, images: Tensor, asked: Tensor | None) -> Tensor:
        logits = super().forward(images, asked)
        logits[:, 0, :, logits.shape[-1] // 2 :] += 100
        return logits


def test_a_network_that_looks_at_one_side_only_does_not() -> None:
    found = Segmenter(segmentation_study(), LeftSide(), mirror=True).find(muscle((150, 200))[0])
    assert (found.agreement[0] or 0) < 0.3


def test_where_the_side_means_something_no_mirrored_frame_is_asked_about() -> None:
    """The answer would be another muscle, and the mean of both is neither."""
    made = segmentation_study(flip=0.0)
    net, (frame, inside) = LeftSide(), muscle((150, 200))
    found = Segmenter(made, net, mirror=True).find(frame)
    assert net.seen == [1]
    assert found.agreement == ()
    left = inside & (np.arange(inside.shape[1]) < inside.shape[1] // 2)
    assert (dice(found.mask(1), left) or 0) > 0.95


def test_nothing_is_found_where_the_machine_recorded_nothing() -> None:
    """Beyond a panorama the frame is black; a black vessel inside is a part of the picture."""

    class Everywhere(Bright):
        def forward(self, images: Tensor, asked: Tensor | None) -> Tensor:
            logits = super().forward(images, asked) * 0
            logits[:, 1] += 10
            return logits

    frame, _ = muscle((150, 200))
    frame.pixels[100:, :60] = 0
    frame.pixels[40:60, 90:110] = 0
    found = Segmenter(segmentation_study(), Everywhere(), mirror=True).find(frame)
    assert not found.mask(1)[105:, :55].any()
    assert found.mask(1)[:95].all()
    np.testing.assert_allclose(found.probabilities.sum(axis=0), 1, atol=1e-5)


def test_a_window_in_millimetres_needs_the_spacing() -> None:
    segmenter = Segmenter(segmentation_study(framing="physical"), Bright())
    with pytest.raises(MissingSpacing, match=r"leg\.png"):
        segmenter.find(muscle((150, 200), mm=None)[0], "leg.png")


def test_a_study_that_diagnoses_finds_no_muscles() -> None:
    with pytest.raises(ConfigError, match="no section"):
        Segmenter(study(), Bright())


def test_a_real_network_finds_the_same_twice() -> None:
    from sarco_models.unet import build_segmenter

    made = segmentation_study()
    torch.manual_seed(1)
    segmenter = Segmenter(made, build_segmenter(made, weights="none"), mirror=True)
    frame = muscle((96, 128))[0]
    one, two = segmenter.find(frame), segmenter.find(frame)
    np.testing.assert_array_equal(one.probabilities, two.probabilities)
    assert segmenter.muscles == ("rectus_femoris", "biceps")
