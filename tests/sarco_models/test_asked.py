"""A network that is asked for a muscle answers for that one: no other map is used, and none is learned from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from client.segment import Loaded
from sarco_models.aims import SEGMENTATION
from sarco_models.auto_masks import Finder
from sarco_models.cohort import Cohort, everyone, open_cohort
from sarco_models.config import StudyConfig
from sarco_models.drawn_shapes import drawn_shapes
from sarco_models.errors import ConfigError
from sarco_models.overlap import dice
from sarco_models.schema import ImageRow
from sarco_models.segmentation_net import of_asked
from sarco_models.segmentation_reader import SegmentationReader
from sarco_models.segmentation_scores import score
from sarco_models.segmenter import Segmenter
from sarco_models.unet import build_segmenter
from tests.client.test_segment import FINE, measures, muscle_picture, run
from tests.client.test_segment_command import run as command
from tests.finders import auto_study, frames_of, stored_finder
from tests.muscle_sites import muscle_site, muscle_study
from tests.sarco_models.test_segmenter import Bright, muscle, segmentation_study
from tests.sites import image_site

ASKED = {"segmentation": {"classes": "asked"}}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return muscle_site(tmp_path_factory.mktemp("muscles") / "alpha", 8, without=2)


def cohort_of(site: Path, study: StudyConfig) -> Cohort:
    return open_cohort(site, study, site.with_name("cache"))


class Halves(nn.Module):
    """Its map of muscle k is the k-th column of three, wherever the muscle is; background elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        size = images.shape[-1]
        column = torch.arange(size) * 3 // size
        maps = [torch.zeros(size, size)] + [torch.where(column == k, 4.0, -4.0).expand(size, size) for k in range(3)]
        return self.weight * torch.stack(maps).expand(len(images), -1, -1, -1)


def test_the_background_and_the_asked_map_are_what_is_left() -> None:
    logits = torch.arange(2 * 4 * 2 * 3).reshape(2, 4, 2, 3).float()
    found = of_asked(logits, torch.tensor([2, 0]))
    assert isinstance(found, Tensor)
    torch.testing.assert_close(found[0], logits[0, [0, 3]])
    torch.testing.assert_close(found[1], logits[1, [0, 1]])
    levels = of_asked([logits, logits[..., :1]], torch.tensor([1, 1]))
    assert [level.shape for level in levels] == [(2, 2, 2, 3), (2, 2, 2, 1)]
    assert of_asked(logits, None) is logits


def test_each_image_is_asked_for_its_own_muscle(site: Path) -> None:
    read = SegmentationReader(muscle_study(**ASKED))
    people = everyone(cohort_of(site, read.study))
    batches = list(read.whole(people))
    asked = torch.cat([b.asked for b in batches if b.asked is not None])
    assert asked.tolist() == [max(read.muscles_of(people, int(k))[0], 0) for k in people.images]
    assert len(set(asked.tolist())) > 1
    assert all(int(b.targets[b.targets < 255].max()) <= 1 and b.annotated.shape[1] == 1 for b in batches)
    for batch in batches:
        assert batch.asked is not None
        torch.testing.assert_close(torch.cat([bag.asked for bag in batch.bags() if bag.asked is not None]), batch.asked)
    assert next(SegmentationReader(muscle_study()).whole(everyone(cohort_of(site, muscle_study())))).asked is None


def test_a_map_that_nobody_asked_for_is_not_learned_from(site: Path) -> None:
    """Its gradient is exactly 0: what else is in the picture costs nothing."""
    study = muscle_study(**ASKED)
    read = SegmentationReader(study)
    batch = next(read.whole(everyone(cohort_of(site, study))))
    assert batch.asked is not None
    maps = torch.randn(len(batch.images), 4, *batch.targets.shape[1:], requires_grad=True)

    class Maps(nn.Module):
        def forward(self, _images: Tensor) -> Tensor:
            return maps

    SEGMENTATION.loss(Maps(), batch).backward()
    assert maps.grad is not None
    looked_for = batch.annotated[:, 0]
    for row, asked in enumerate(batch.asked.tolist()):
        used = maps.grad[row].abs().sum(dim=(1, 2)) > 0
        assert used.tolist() == [k in (0, asked + 1) and bool(looked_for[row]) for k in range(4)]


def test_scores_are_those_of_the_asked_map(site: Path) -> None:
    read = SegmentationReader(muscle_study(**ASKED))
    people = everyone(cohort_of(site, read.study))
    scored = score(Halves(), read, people, sizes=False)
    assert scored.by_image is not None
    column = np.arange(read.study.image.size) * 3 // read.study.image.size
    seen = 0
    for place, batch_image in enumerate(people.images.tolist()):
        own = read.muscles_of(people, batch_image)[0]
        target = people.cohort.targets[np.array([batch_image])][0]
        if own < 0 or not (target == 1).any():
            continue
        expected = dice(np.broadcast_to(column == own, target.shape) & (target != 255), target == 1)
        assert scored.by_image.values[place, own, 0] == pytest.approx(expected)
        seen += 1
    assert seen > 5


def test_shapes_are_of_each_muscle(site: Path) -> None:
    study = muscle_study(**ASKED, image={"framing": "letterbox"})
    people = everyone(cohort_of(site, study))
    assert set(drawn_shapes(SegmentationReader(study), people)) == set(study.segmentation.names)  # type: ignore[union-attr]


def asked_study(**image: Any) -> StudyConfig:
    study = segmentation_study(**image)
    assert study.segmentation is not None
    return study.model_copy(update={"segmentation": study.segmentation.model_copy(update={"classes": "asked"})})


def test_a_frame_is_searched_for_one_muscle() -> None:
    frame, inside = muscle((150, 200))
    segmenter = Segmenter(asked_study(framing="letterbox"), Bright(), mirror=True)
    found = segmenter.asking("rectus_femoris").find(frame)
    assert found.probabilities.shape[0] == 2
    assert (dice(found.mask(1), inside) or 0) > 0.97
    assert segmenter.asking("rectus_femoris").muscles == ("rectus_femoris",)
    assert segmenter.muscles == ("rectus_femoris", "biceps")
    other = segmenter.asking("biceps").find(frame)
    assert other.probabilities[1][inside].mean() < 0.95 < found.probabilities[1][inside].mean(), "it is another map"


def test_who_asks_for_nothing_or_something_else_is_told_what_there_is() -> None:
    frame, _ = muscle((150, 200))
    segmenter = Segmenter(asked_study(), Bright())
    with pytest.raises(ConfigError, match="say which, of rectus_femoris, biceps"):
        segmenter.find(frame)
    with pytest.raises(ConfigError, match="'masseter' is none of the muscles that this model finds: rectus_femoris"):
        segmenter.asking("masseter")
    with pytest.raises(ConfigError, match="is not asked for a muscle"):
        Segmenter(segmentation_study(), Bright()).asking("biceps")


def test_the_command_has_to_name_the_muscle(tmp_path: Path) -> None:
    model = stored_finder(tmp_path / "model", **ASKED)
    muscle_picture(tmp_path / "in" / "a.png")
    images, out = tmp_path / "in", tmp_path / "out"
    said = ("--model", model, "--out", out, "--mm-per-pixel", "0.2")
    code, told = command(images, *said)
    assert code == 2
    assert "--muscle is missing" in told
    assert not out.exists()
    assert command(images, *said, "--muscle", "triceps")[0] == 0
    assert "made of another image or with other options" in command(images, *said, "--muscle", "biceps")[1]


def test_measures_are_of_the_muscle_that_was_asked_for(tmp_path: Path) -> None:
    muscle_picture(tmp_path / "in" / "a.png")
    study, net = asked_study(), Bright()
    from sarco_models.released_segmenter import ReleasedSegmenter

    released = ReleasedSegmenter(study, net, FINE, "c" * 64)  # type: ignore[arg-type]
    run(tmp_path / "in", tmp_path / "out", model=Loaded(released, Segmenter(study, net).asking("rectus_femoris")))
    assert {row["muscle"] for row in measures(tmp_path / "out").values()} == {"rectus_femoris"}


def test_masks_of_a_study_are_asked_for_by_the_row_of_images_csv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, asked = stored_finder(tmp_path / "finder", **ASKED), list[int | None]()
    find = Segmenter.find

    def seen(segmenter: Segmenter, *of_frame: Any) -> Any:
        asked.append(segmenter.asked)
        return find(segmenter, *of_frame)

    monkeypatch.setattr(Segmenter, "find", seen)
    folder = image_site(tmp_path / "site")
    finder = Finder.of(auto_study(place))
    name, frame = next(iter(frames_of(folder).items()))
    for muscle_, position in (("triceps", 1), ("biceps", 0)):
        _, origin = finder.look(frame, ImageRow(2, name, "P000", "", muscle=muscle_))
        assert asked[-1] == position
        assert origin.score is not None


def test_the_network_has_a_map_for_each_muscle() -> None:
    made = muscle_study(**ASKED)
    assert build_segmenter(made, weights="none").eval()(torch.zeros(1, 1, 32, 32)).shape[1] == 4
    one = muscle_study(segmentation={"classes": "one"})
    assert build_segmenter(one, weights="none").eval()(torch.zeros(1, 1, 32, 32)).shape[1] == 2
