"""One person with all images changes one clipped vector; noise covers all that changes, and nobody can repeat it."""

import copy
import inspect
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from opacus.optimizers import DPOptimizer
from pydantic import ValidationError
from scipy import stats
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from sarco_models import privacy
from sarco_models.accounting import plan
from sarco_models.clipping import ParticipantOptimizer
from sarco_models.cohort import HeldOut, Split, TrainingPeople, split
from sarco_models.config import IntensityConfig, StudyConfig
from sarco_models.devices import seeded
from sarco_models.errors import ConfigError
from sarco_models.fusion import build_model
from sarco_models.parameters import local_tensors
from sarco_models.per_participant import trained_parameters
from sarco_models.privacy import Privatize, check_private_model, no_privacy, noised, thrown
from sarco_models.protection import PrivacyConfig
from sarco_models.reader import Batch, Reader
from sarco_models.schema import design_columns
from sarco_models.secret import Secret
from sarco_models.summaries import Moments, agreed_scaling
from sarco_models.training import Training, build_optimizer, fit, participant_loss, plain_step, proximal
from tests.sites import image_site, image_study, opened, read_csv, tables_site, tables_study, write_rows

PRIVATE: dict[str, Any] = {
    "privacy": {"epsilon": 3.0, "delta": 1e-3},
    "training": {"balance_classes": False, "local_steps": 2, "optimizer": "sgd", "learning_rate": 1.0,
                 "weight_decay": 0.0, "images_per_participant": 8},
    "model": {"dropout": 0.0},
    "augmentation": {"cached_views": 1, "horizontal_flip": 0.0, "vertical_flip": 0.0, "shift": 0.0, "scale": 0.0,
                     "brightness": 0.0, "rotate_degrees": 0.0, "contrast": 0.0},
}  # fmt: skip
UNCLIPPED = {"privacy": {"max_grad_norm": 1000.0}}


def tables(**changes: dict[str, Any]) -> StudyConfig:
    return laid_over(tables_study, changes)


def images(**changes: dict[str, Any]) -> StudyConfig:
    return laid_over(image_study, changes)


def laid_over(make: Callable[..., StudyConfig], changes: dict[str, dict[str, Any]]) -> StudyConfig:
    keys = {*PRIVATE, *changes}
    return make(**{key: {**PRIVATE.get(key, {}), **changes.get(key, {})} for key in keys})


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Split:
    config = tables()
    return split(opened(tables_site(tmp_path_factory.mktemp("tables") / "site"), config), config.split, 1)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """12 people with 1 to 3 images, two of them without any."""
    config = images()
    folder = image_site(tmp_path_factory.mktemp("images") / "site", 12, images=3, without=2)
    return split(opened(folder, config), config.split, 1)


def reader_of(study: StudyConfig, parts: Split) -> Reader:
    with seeded(11, torch.device("cpu")):
        model = build_model(study, weights="none")
        for name, parameter in model.net.named_parameters():
            if name.endswith("gamma") or name.startswith("absent"):
                nn.init.normal_(parameter, 0.5, 0.2)
    moments = Moments.of(parts.train, design_columns(study.features), extremes=True)
    return Reader.of(model, agreed_scaling(study, moments), study)


def plain(reader: Reader, **changes: Any) -> Training:
    net = reader.model.net
    training = Training(net, build_optimizer(net, reader.study.training), [], participant_loss, lambda _: 1.0)
    return replace(training, **changes)


def private(reader: Reader, parts: Split, noise: float = 0.0, secret: int = 1, **changes: Any) -> Training:
    make = noised(reader.study, reader, parts.train, Secret(secret), noise_multiplier=noise)
    return make(plain(reader, **changes))


def vector(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()]).clone()


def change_of(training: Training, seed: int = 1) -> Tensor:
    before = vector(training.net)
    fit(training, seed)
    return vector(training.net) - before


# ---- chance that nobody can repeat -----------------------------------------------------------------------------------


def test_a_secret_without_a_seed_repeats_nothing() -> None:
    drawn = {float(Secret().torch().seed()) for _ in range(4)} | {Secret().numpy().random() for _ in range(4)}
    assert len(drawn) == 8


def test_a_secrets_generators_differ_from_each_other() -> None:
    secret = Secret(1)
    noises = [torch.randn(3, generator=secret.torch()).tolist() for _ in range(3)]
    assert len({tuple(n) for n in noises}) == 3
    assert secret.numpy().random() != secret.numpy().random()
    again = Secret(1)
    assert torch.randn(3, generator=again.torch()).tolist() == noises[0]


def test_torch_seeds_its_processor_generator_with_32_bits() -> None:
    """Why a secret sets the whole state. When this fails, torch has mended it."""
    one, other = (torch.Generator().manual_seed(seed) for seed in (5, 5 + 2**32))
    assert torch.equal(torch.rand(4, generator=one), torch.rand(4, generator=other))


def test_a_secrets_noise_is_of_no_stream_that_a_seed_of_torch_names() -> None:
    """Its 624 words are drawn, and not unrolled from the first one as a seed's are (Matsumoto and Nishimura 1998)."""
    generator = Secret(3).torch()
    words = generator.get_state()[24 : 24 + 8 * 624].numpy().view(np.uint64)
    assert int(words.max()) < 2**32
    first = np.uint64(1812433253) * (words[0] ^ (words[0] >> np.uint64(30))) + np.uint64(1)
    assert int(words[1]) != int(first) % 2**32
    seeded_words = torch.Generator().manual_seed(int(words[0])).get_state()[24 : 24 + 8 * 624].numpy().view(np.uint64)
    assert int(words[0]) == int(seeded_words[0])
    assert np.mean(words == seeded_words) < 0.01
    again = torch.Generator().manual_seed(int(words[0]))
    assert not torch.equal(torch.randn(4, generator=generator), torch.randn(4, generator=again))
    assert stats.kstest(torch.randn(20_000, generator=generator).numpy(), "norm").pvalue > 1e-4


@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_the_studys_public_seed_says_nothing_of_noise_or_of_who_takes_part(people: Split, rate: float) -> None:
    """``fit`` runs under a seed that everybody reads in the study: Opacus without a generator would draw from it."""
    study = tables(privacy={"sample_rate": rate})
    changes = []
    for secret in (Secret(), Secret()):
        reader = reader_of(study, people)
        make = noised(study, reader, people.train, secret, noise_multiplier=1.0)
        changes.append(change_of(make(plain(reader)), seed=7))
    # Independent noise: numbers may meet by chance, vectors do not (same noise: no difference at all).
    one, other = changes
    assert float((one - other).norm()) > 0.5 * float(one.norm())


@pytest.mark.parametrize("what", [{"dropout": 0.5}, {"modality_dropout": 0.5, "tabular": "per_group"}])
def test_dropout_follows_the_secret_and_not_the_studys_seed(people: Split, what: dict[str, Any]) -> None:
    """With a public seed, one person's absence would shift, for everybody to compute, what is dropped of the others."""
    study = tables(model=what)
    one, same, other = (change_of(private(reader_of(study, people), people, secret=s), seed=7) for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_who_takes_part_differs_with_the_same_seed(people: Split) -> None:
    study = tables(privacy={"sample_rate": 0.5}, training={"local_steps": 6})
    drawn = []
    for _ in range(2):
        reader, sizes = reader_of(study, people), []

        def step(_: Training, batch: Batch, found: list[Any] = sizes) -> float:
            found.append(tuple(batch.inputs.tables["table"].flatten().tolist()))
            return 0.0

        make = noised(study, reader, people.train, Secret(), noise_multiplier=1.0)
        fit(replace(make(plain(reader)), step=step), seed=7)
        drawn.append(sizes)
    assert len(drawn[0]) == len(drawn[1]) == 6
    assert drawn[0] != drawn[1]


# ---- who takes part --------------------------------------------------------------------------------------------------


def test_everybody_is_drawn_by_a_throw_of_its_own() -> None:
    """Poisson sampling: sizes are binomial, and no pair of people comes together more often than by chance."""
    rng, n, rate, steps = np.random.default_rng(0), 40, 0.3, 4000
    drawn = np.zeros((steps, n), dtype=bool)
    for step in range(steps):
        drawn[step, thrown(n, rate, rng)] = True
    low, high = stats.binom.ppf([1e-6, 1 - 1e-6], steps, rate)
    assert ((low <= drawn.sum(axis=0)) & (drawn.sum(axis=0) <= high)).all()
    assert drawn.sum(axis=1).var() == pytest.approx(n * rate * (1 - rate), rel=0.1)
    pairs = np.corrcoef(drawn.T)[np.triu_indices(n, 1)]
    assert np.abs(pairs).max() < 0.1


def test_with_rate_one_everybody_is_in_every_step() -> None:
    assert thrown(9, 1.0, np.random.default_rng(0)).tolist() == list(range(9))


def test_an_empty_batch_still_adds_noise_and_steps(people: Split) -> None:
    """Else that nobody was drawn would be seen."""
    for optimizer in ("sgd", "adamw"):
        study = tables(privacy={"sample_rate": 1e-9}, training={"optimizer": optimizer})
        reader = reader_of(study, people)
        assert [len(b.labels) for b in private(reader, people).batches] == [0, 0]
        assert (change_of(private(reader, people, noise=1.0)) != 0).all()
        assert not change_of(private(reader, people, noise=0.0)).any()


@pytest.mark.parametrize("trainable", ["head", "last_stage", "all"])
def test_an_empty_batch_of_an_image_network(seen: Split, trainable: str) -> None:
    study = images(privacy={"sample_rate": 1e-9}, model={"trainable": trainable})
    assert (change_of(private(reader_of(study, seen), seen, noise=1.0)) != 0).all()


def test_a_round_has_the_studys_steps_whoever_is_drawn(people: Split) -> None:
    study = tables(privacy={"sample_rate": 0.05}, training={"local_steps": 7})
    said = fit(private(reader_of(study, people), people, noise=1.0), seed=1)
    assert len(said) == 7
    assert all(math.isnan(loss) for loss in said)  # the loss is of private data, without noise


def test_the_rate_of_each_step_is_the_studys(people: Split) -> None:
    study, rates = tables(training={"local_steps": 3, "learning_rate": 0.5}), []
    training = private(reader_of(study, people), people, rates=lambda step: 1 / (step + 1))

    def step(training: Training, _: Batch) -> float:
        rates.append(training.optimizer.param_groups[0]["lr"])
        return 0.0

    fit(replace(training, step=step), seed=1)
    assert rates == [0.5, 0.25, 0.5 / 3]


def test_a_bag_is_so_many_images_times_so_many_views(seen: Split) -> None:
    study = images(privacy={"augmentations": 3}, training={"images_per_participant": 2})
    (batch, *_) = private(reader_of(study, seen), seen).batches
    had = [len(seen.cohort.images_of(np.array([m]))) for m in seen.train.members]
    assert torch.bincount(batch.owner).tolist() == [max(1, 3 * min(2, n)) for n in had]
    assert 0 in had


def test_each_view_is_augmented_by_itself(seen: Split) -> None:
    study = images(privacy={"augmentations": 4}, augmentation={"rotate_degrees": 20.0, "shift": 0.2})
    (batch, *_) = private(reader_of(study, seen), seen).batches
    assert batch.inputs.image is not None
    person = int(torch.bincount(batch.owner).argmax())
    views = batch.inputs.image[batch.owner == person]
    assert len({float(v.sum()) for v in views}) > len(views) / 2


# ---- the step --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("kind", ["tables", "head", "last_stage", "all"])
def test_without_noise_and_clipping_it_is_the_plain_full_batch_step(
    people: Split, seen: Split, kind: str, optimizer: str
) -> None:
    """Also with an image branch that has a learning rate of its own, and FedProx."""
    changes: dict[str, Any] = {
        **UNCLIPPED,
        "training": {"optimizer": optimizer, "momentum": 0.9 * (optimizer == "sgd"), "learning_rate": 0.01,
                     "backbone_learning_rate": 0.001, "weight_decay": 0.1},
    }  # fmt: skip
    study = tables(**changes) if kind == "tables" else images(**changes, model={"trainable": kind, "dropout": 0.0})
    parts = people if kind == "tables" else seen
    results = []
    for step in (plain_step, None):
        reader = reader_of(study, parts)
        reader.model.net.double()
        anchor = {n: p.detach() + 0.1 for n, p in reader.model.net.named_parameters()}
        training = private(reader, parts, penalty=proximal(anchor, 0.3))
        everybody = [doubled(b) for b in training.batches]
        if step is None:
            training = replace(training, batches=everybody)
        else:
            training = plain(reader, batches=everybody, penalty=proximal(anchor, 0.3))
        results.append(change_of(training))
    assert results[0].abs().max() > 1e-3
    # Opacus' clipping factor is norm / (norm + 1e-6) at the least; Adam divides small gradients by themselves.
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6 if optimizer == "adamw" else 1e-9)


def doubled(batch: Batch) -> Batch:
    inputs = batch.inputs
    image = None if inputs.image is None else inputs.image.double()
    tables = {name: table.double() for name, table in inputs.tables.items()}
    return replace(batch, inputs=replace(inputs, image=image, tables=tables), labels=batch.labels.double())


def test_fedprox_pulls_with_its_whole_weight_however_small_the_clipping_norm(people: Split) -> None:
    """The distance to the round's model is of no person: clipped with the gradients, it would all but vanish."""
    study = tables(privacy={"max_grad_norm": 1e-6}, training={"local_steps": 1})
    reader = reader_of(study, people)
    anchor = {n: p.detach() - 1.0 for n, p in reader.model.net.named_parameters()}
    pulled = change_of(private(reader, people, penalty=proximal(anchor, 0.25)))
    torch.testing.assert_close(pulled, torch.full_like(pulled, -0.25), rtol=0, atol=1e-5)


def test_noise_is_the_multiplier_times_the_clipping_norm_over_the_expected_people(people: Split) -> None:
    """On every trained parameter alike, and normal (Kolmogorov-Smirnov), whatever was drawn."""
    study = tables(
        privacy={"max_grad_norm": 0.5, "sample_rate": 0.5}, training={"local_steps": 1}, model={"hidden_units": 256}
    )
    found, n = [], len(people.train)
    for k in range(4):
        readers = [reader_of(study, people) for _ in range(2)]
        noisy, clear = (
            change_of(private(reader, people, noise=noise, secret=k))
            for reader, noise in zip(readers, (3.0, 0.0), strict=True)
        )
        found.append(noisy - clear)
    noise = torch.cat(found).numpy()
    std = 3.0 * 0.5 / (0.5 * n)
    assert noise.std() == pytest.approx(std, rel=0.03)
    assert stats.kstest(noise / std, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(found[0], found[1])[0, 1]) < 0.1


@pytest.mark.parametrize(
    ("trainable", "norm"),
    [("head", "none"), ("last_stage", "none"), ("all", "none"), ("last_stage", "local"), ("all", "local")],
)
def test_everything_that_training_changes_gets_noise(seen: Split, trainable: str, norm: str) -> None:
    """Layer norms that stay at their hospital too: what the next rounds send depends on them."""
    study = images(model={"trainable": trainable, "norm": norm}, training={"local_steps": 1})
    reader = reader_of(study, seen)
    net = reader.model.net
    assert bool(local_tensors(net)) == (norm == "local")
    before = {n: t.clone() for n, t in [*net.named_parameters(), *net.named_buffers()]}
    frozen = {n: t.clone() for n, t in reader.model.frozen.state_dict().items()}  # type: ignore[union-attr]
    fit(private(reader, seen, noise=5.0), seed=1)
    for name, parameter in net.named_parameters():
        assert ((parameter - before[name]) != 0).float().mean() > 0.99, name
    assert all(torch.equal(t, before[n]) for n, t in net.named_buffers())
    assert all(torch.equal(t, frozen[n]) for n, t in reader.model.frozen.state_dict().items())  # type: ignore[union-attr]


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_sensitivity_cannot_be_set_apart_from_the_clipping_norm() -> None:
    """A noise setting of its own is how others lose a factor of 10,000."""
    settings = set(PrivacyConfig.model_fields)
    assert not [s for s in settings if "noise" in s or "sigma" in s or "sensitivity" in s]
    assert not {"noise_multiplier", "sensitivity", "noise"} & set(inspect.signature(privacy.dp_sgd).parameters)
    with pytest.raises(ValidationError):
        tables(privacy={"noise_multiplier": 0.1})
    reader_net = nn.Linear(2, 1)
    made = ParticipantOptimizer(
        torch.optim.SGD(reader_net.parameters(), lr=1.0), noise_multiplier=2.0, max_grad_norm=3.0, expected_batch_size=1
    )
    assert isinstance(made, DPOptimizer)  # its noise is noise_multiplier * max_grad_norm
    assert "sensitivity" not in inspect.signature(ParticipantOptimizer.__init__).parameters


def test_a_delta_of_one_in_the_number_of_people_is_refused(people: Split) -> None:
    """With it a mechanism may hand out one person in the clear, and is still called private."""
    study = tables(privacy={"delta": 0.005})
    reader = reader_of(study, people)
    some, many = (TrainingPeople(people.cohort, np.zeros(n, dtype=np.int64)) for n in (199, 200))
    noised(study, reader, some, Secret(1), noise_multiplier=1.0)
    with pytest.raises(ConfigError, match=r"delta = 0\.005: a hospital of 200 .* below 1/200"):
        noised(study, reader, many, Secret(1), noise_multiplier=1.0)


def test_people_who_are_held_out_are_refused(people: Split) -> None:
    study = tables()
    held_out: Any = HeldOut(people.cohort, people.train.members)
    with pytest.raises(TypeError, match="TrainingPeople"):
        noised(study, reader_of(study, people), held_out, Secret(1), noise_multiplier=1.0)


@pytest.mark.parametrize("section", ["privacy", "training.balance_classes", "training.local_steps"])
def test_a_study_that_is_not_sampled_as_epsilon_assumes_is_refused(people: Split, section: str) -> None:
    """Also one that was changed after it was read and checked."""
    study = tables()
    training = {"training.balance_classes": {"balance_classes": True}, "training.local_steps": {"local_steps": 0}}
    changed = (
        study.model_copy(update={"privacy": None})
        if section == "privacy"
        else study.model_copy(update={"training": study.training.model_copy(update=training[section])})
    )
    with pytest.raises(ConfigError, match=section):
        noised(changed, reader_of(study, people), people.train, Secret(1), noise_multiplier=1.0)


def test_grey_levels_measured_on_everybody_are_refused(seen: Split, people: Split) -> None:
    """One person's images would change everybody's, and with them every gradient."""
    study = images().model_copy(update={"intensity": IntensityConfig(standardize="device")})  # no file can say it
    with pytest.raises(ConfigError, match=r'intensity\.standardize = "device" .* write standardize = "none"'):
        noised(study, reader_of(study, seen), seen.train, Secret(1), noise_multiplier=1.0)
    without_images = tables(intensity={"standardize": "device"})
    noised(without_images, reader_of(without_images, people), people.train, Secret(1), noise_multiplier=1.0)


def test_kept_views_of_an_image_do_not_depend_on_who_else_is_there(tmp_path: Path) -> None:
    """They are made by a public seed: by their place in the hospital, one person's absence would change them all."""
    config = images(model={"trainable": "head"}, augmentation={"cached_views": 3, "rotate_degrees": 30.0})
    image_site(tmp_path / "all", 6)
    rows = read_csv(tmp_path / "all" / "images.csv")
    shutil.copytree(tmp_path / "all", tmp_path / "fewer")
    write_rows(tmp_path / "fewer" / "images.csv", [row for row in rows if row["participant_id"] != "P000"])
    kept = []
    for name in ("all", "fewer"):
        cohort = opened(tmp_path / name, config)
        everybody, nobody = TrainingPeople(cohort, np.arange(len(cohort))), HeldOut(cohort, np.arange(0))
        reader = reader_of(config, Split(everybody, nobody, nobody))
        every = np.arange(len(cohort.owner))
        views = cohort.kept(reader._views_key(), every, reader._compute_views)[every]
        kept.append({p.tobytes(): v for p, v in zip(cohort.pixels[every], views, strict=True)})
    common = kept[0].keys() & kept[1].keys()
    assert len(common) == len(kept[1]) == len(kept[0]) - 1
    for image in common:
        np.testing.assert_array_equal(kept[0][image], kept[1][image])


def test_a_batch_norm_that_lives_is_refused_in_either_part(seen: Split) -> None:
    """STYLE 7.1: timm's own type too, which Opacus' validator lets pass."""
    model = reader_of(images(model={"trainable": "head"}), seen).model
    check_private_model(model)
    for norm in (nn.BatchNorm2d(3), BatchNormAct2d(3)):
        live = replace(model, frozen=nn.Sequential(model.frozen, norm))
        with pytest.raises(ConfigError, match="frozen part normalises by batches"):
            check_private_model(live)
        check_private_model(replace(model, frozen=live.frozen.eval()))  # type: ignore[union-attr]
        net = copy.deepcopy(model.net)
        net.branches["image"] = nn.Sequential(norm.eval())
        with pytest.raises(ConfigError, match="trained part normalises by batches"):
            check_private_model(replace(model, net=net))


class _Remembers(nn.Module):
    """A layer with a running mean of its own, as no list of layers would know it."""

    def __init__(self, *, swaps: bool) -> None:
        super().__init__()
        self.swaps = swaps
        self.register_buffer("seen", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.detach().mean(0)
        if self.swaps:
            self.seen = mean
        else:
            self.seen.mul_(0.9).add_(mean)
        return x


@pytest.mark.parametrize("swaps", [True, False])
def test_a_buffer_that_training_changes_is_refused(people: Split, swaps: bool) -> None:
    study = tables()
    reader = reader_of(study, people)
    reader.model.net.branches["table"].layers.append(_Remembers(swaps=swaps))  # type: ignore[union-attr, operator]
    before = vector(reader.model.net)
    with pytest.raises(ConfigError, match=r"layers\.3\.seen.*no noise"):
        fit(private(reader, people, noise=1.0), seed=1)
    assert torch.equal(vector(reader.model.net), before)


def test_an_optimizer_of_other_parameters_than_the_networks_is_refused(people: Split) -> None:
    study = tables()
    reader = reader_of(study, people)
    some = torch.optim.SGD(trained_parameters(reader.model.net)[:2], lr=1.0)
    make = noised(study, reader, people.train, Secret(1), noise_multiplier=1.0)
    with pytest.raises(TypeError, match="holds 2 parameters"):
        make(plain(reader, optimizer=some))
    with pytest.raises(TypeError, match="private already"):
        make(make(plain(reader)))


def test_a_study_without_privacy_trains_as_it_is(people: Split) -> None:
    training = plain(reader_of(tables(), people))
    assert no_privacy(training) is training
    makes: Privatize = no_privacy
    assert makes(training).step is plain_step


# ---- noise from the plan ---------------------------------------------------------------------------------------------


def test_the_noise_is_the_plans(people: Split) -> None:
    study = tables()
    reader = reader_of(study, people)
    training = privacy.dp_sgd(study, reader, people.train, Secret(1))(plain(reader))
    assert isinstance(training.optimizer, ParticipantOptimizer)
    assert training.optimizer.noise_multiplier == plan(study).training.noise_multiplier > 0
    assert training.optimizer.max_grad_norm == study.privacy.max_grad_norm  # type: ignore[union-attr]
    assert training.optimizer.expected_batch_size == len(people.train)
