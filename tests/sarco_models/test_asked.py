"""A network that is asked for a muscle answers for that one, and learns nothing of those that nobody asked for."""

import copy
import itertools
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
from sarco_models.parameters import trained_tensors
from sarco_models.schema import ImageRow
from sarco_models.segmentation_net import Asked, SegmentationNet
from sarco_models.segmentation_reader import SegmentationBatch, SegmentationReader
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
    """Muscle k is the k-th column of three, wherever it is; background elsewhere."""

    def forward(self, images: Tensor, asked: Tensor) -> Tensor:
        size = images.shape[-1]
        there = (torch.arange(size) * 3 // size == asked[:, None]).float()[:, None].expand(-1, size, -1)
        return torch.stack([torch.zeros_like(there), 8 * there - 4], dim=1)


NETWORKS: tuple[dict[str, Any], ...] = (
    {"network": "unet"},
    {
        "network": "nnunet",
        "plan": {"patch": [32, 32], "mm_per_pixel": 0.5, "features": [8, 16, 24], "grey_mean": 60, "grey_sd": 30},
    },
)


@pytest.fixture(params=NETWORKS, ids=lambda p: p["network"])
def net(request: pytest.FixtureRequest) -> SegmentationNet:
    """Of three muscles; with layers that all do something."""
    study = muscle_study(
        segmentation={"classes": "asked", **request.param}, image={"framing": "physical", "window_mm": 16.0}
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_segmenter(study, weights="none").double()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_what_is_found_depends_on_what_is_asked_from_the_start(net: SegmentationNet, images: Tensor) -> None:
    """And on nothing else: neither on the company of an image nor on what that was asked for."""
    with torch.no_grad():
        by_muscle = [net.eval()(images, torch.full((3,), k)) for k in range(3)]
        mixed = net(images, torch.tensor([2, 0, 1]))
    assert {tuple(logits.shape) for logits in by_muscle} == {(3, 2, 32, 32)}
    for one, other in itertools.combinations(by_muscle, 2):
        assert float((one - other).abs().max()) > 0.01
    for row, k in enumerate((2, 0, 1)):
        torch.testing.assert_close(mixed[row], by_muscle[k][row])


def test_what_is_said_of_a_muscle_that_nobody_asked_for_is_not_learned(net: SegmentationNet, images: Tensor) -> None:
    """Its gradient is exactly 0, whatever else is in the picture."""
    levels = net.train()(images, torch.tensor([1, 1, 2]))
    sum((level**2).sum() for level in ([levels] if isinstance(levels, Tensor) else levels)).backward()  # type: ignore[union-attr]
    told = [p for asked in net.modules() if isinstance(asked, Asked) for p in asked.parameters()]
    assert told
    for parameter in told:
        assert parameter.grad is not None
        assert [bool(row.abs().sum() > 0) for row in parameter.grad] == [False, True, True]


def test_a_persons_gradient_is_that_of_the_person_alone(net: SegmentationNet, images: Tensor) -> None:
    parameters = list(trained_tensors(net.train()).values())
    targets = torch.randint(0, 2, (3, 32, 32), generator=torch.Generator().manual_seed(2))
    batch = SegmentationBatch(
        images, targets, torch.ones(3, 1, dtype=torch.bool), torch.tensor([0, 0, 1]), 2, asked=torch.tensor([2, 0, 1])
    )
    expected = torch.autograd.grad(SEGMENTATION.loss(net, batch), parameters)
    alone = [torch.autograd.grad(SEGMENTATION.loss(net, bag), parameters) for bag in batch.bags()]
    for together, *each in zip(expected, *alone, strict=True):
        torch.testing.assert_close(together, sum(each) / 2, rtol=1e-6, atol=1e-9)


# ---- two hospitals that list the same pictures by different names ----------------------------------------------------


def two_discs(people: int, seed: int) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Pictures of two muscles that look alike, and where the left and the right one are."""
    chance, places = torch.Generator().manual_seed(seed), torch.arange(32) + 0.5
    x, y = places.view(1, 1, 32), places.view(1, 32, 1)
    moved = (4 * torch.rand(people, 4, generator=chance) - 2)[:, :, None, None].unbind(1)
    left = (x - 9 - moved[0]) ** 2 + (y - 16 - moved[1]) ** 2 < 36
    right = (x - 23 - moved[2]) ** 2 + (y - 16 - moved[3]) ** 2 < 36
    pictures = 0.2 + 0.3 * (left | right) + 0.1 * torch.rand(people, 32, 32, generator=chance)
    return pictures[:, None], (left.long(), right.long())


def trained_at(net: SegmentationNet, listed: int, rate: float) -> dict[str, Tensor]:
    """The weights after one round at a hospital that lists every picture as one muscle."""
    own = copy.deepcopy(net).train()
    optimizer = torch.optim.AdamW(own.parameters(), lr=rate)
    pictures, drawn = two_discs(8, seed=1 + listed)
    looked_for, owner, asked = torch.ones(8, 1, dtype=torch.bool), torch.arange(8), torch.full((8,), listed)
    for _ in range(4):
        optimizer.zero_grad()
        SEGMENTATION.loss(own, SegmentationBatch(pictures, drawn[listed], looked_for, owner, 8, asked=asked)).backward()
        optimizer.step()
    return own.state_dict()


@pytest.mark.slow
def test_hospitals_that_list_the_same_pictures_by_different_names_learn_both_muscles_together() -> None:
    """Neither has a reason to tell the two apart, and what each says of a picture pulls against the other's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        study = muscle_study(
            segmentation={**ASKED["segmentation"], **NETWORKS[1]}, image={"framing": "physical", "window_mm": 16.0}
        )
        net = build_segmenter(study, weights="none")
    for done in range(24):
        one, other = (trained_at(net, listed, 4e-3 * (1 - done / 24)) for listed in (0, 1))
        net.load_state_dict({name: (one[name] + other[name]) / 2 for name in one})
    pictures, drawn = two_discs(8, seed=9)
    for asked, truth in enumerate(drawn):
        with torch.no_grad():
            found = net.eval()(pictures, torch.full((8,), asked)).argmax(1)
        assert (dice(found.numpy() == 1, truth.numpy() == 1) or 0) > 0.9


# ---- what is asked ---------------------------------------------------------------------------------------------------


def test_the_maps_are_multiplied_and_moved_as_the_asked_row_says() -> None:
    asking = Asked(2, [1, 2])
    with torch.no_grad():
        for k, (factor, offset) in enumerate(zip(asking.factors, asking.offsets, strict=True)):
            factor.copy_(torch.arange(2 * (k + 1)).view(2, -1) + 2)
            offset.copy_(10 * torch.arange(2 * (k + 1)).view(2, -1))
    coarse, fine = asking([torch.ones(2, 1, 1, 1), torch.ones(2, 2, 1, 1)], torch.tensor([1, 0]))
    assert coarse.flatten().tolist() == [3 + 10, 2 + 0]
    assert fine.flatten().tolist() == [4 + 20, 5 + 30, 2 + 0, 3 + 10]


def test_a_network_is_told_what_it_has_to_be_told(net: SegmentationNet, images: Tensor) -> None:
    with pytest.raises(ValueError, match="no muscle was asked for, and this network is asked for one of 3"):
        net(images)
    with pytest.raises(ValueError, match="a muscle was asked for, and this network is asked for one of 0"):
        build_segmenter(muscle_study(), weights="none").double()(images, torch.tensor([0, 0, 0]))


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


def test_scores_are_of_the_asked_muscle(site: Path) -> None:
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
    assert other.probabilities[1][inside].mean() < 0.95 < found.probabilities[1][inside].mean(), "it is another muscle"


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
