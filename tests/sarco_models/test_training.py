"""People weigh equally, chance is an argument, and what is kept on disk is what would have been computed."""

import copy
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sarco_models.cohort import Cohort, HeldOut, Split, TrainingPeople, everyone, split
from sarco_models.config import SplitConfig, StudyConfig
from sarco_models.fusion import FusionNet, Inputs, Model, build_model, fixed_tensors
from sarco_models.parameters import Parameters, all_tensors, local_tensors, trained_tensors
from sarco_models.preprocess import augmentation
from sarco_models.schema import design_columns
from sarco_models.summaries import Moments, agreed_scaling
from sarco_models.training import (
    Batch,
    Reader,
    Training,
    adamw,
    build_optimizer,
    chained,
    count_parameters,
    fit,
    participant_loss,
    predict,
    proximal,
    steps_per_epoch,
    warmup_cosine,
)
from tests.sites import image_site, image_study, opened, read_csv, tables_site, tables_study, write_rows

TRAINABLE = ("head", "last_stage", "all")


@cache
def _made(study: str) -> Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        model = build_model(StudyConfig.model_validate_json(study), weights="none")
        for name, parameter in [*model.net.named_parameters(), *(model.frozen or nn.Module()).named_parameters()]:
            if name.endswith("gamma") or name.startswith("absent"):  # they begin at 1e-6 and 0, where nothing is seen
                nn.init.normal_(parameter, 0.5, 0.2)
    return model


def model_of(study: StudyConfig) -> Model:
    """A model of this study, the same every time."""
    return copy.deepcopy(_made(study.model_dump_json()))


def reader_of(parts: Split, study: StudyConfig) -> Reader:
    moments = Moments.of(parts.train, design_columns(study.features), extremes=True)
    return Reader.of(model_of(study), agreed_scaling(study, moments), study)


@pytest.fixture(scope="module")
def tables(tables_folder: Path) -> Split:
    return split(opened(tables_folder, tables_study()), SplitConfig(), 1)


@pytest.fixture(scope="module")
def images(image_folder: Path) -> Split:
    """12 people with 1 or 2 images, but for one without."""
    return split(opened(image_folder, image_study()), SplitConfig(), 1)


def some(people: HeldOut | TrainingPeople, chosen: Any) -> HeldOut:
    return HeldOut(people.cohort, people.members[chosen])


def with_table(cohort: Cohort, change: Callable[[NDArray[np.float64]], None]) -> Cohort:
    table = cohort.table.copy()
    change(table)
    return replace(cohort, table=table)


def training_of(reader: Reader, people: TrainingPeople, seed: int = 0) -> Training:
    batches = reader.batches(people, np.random.default_rng(seed))
    optimizer = adamw(reader.model.net, reader.study.training)
    return Training(reader.model.net, optimizer, batches, participant_loss, lambda _: 1.0)


def digest(net: nn.Module) -> str:
    return Parameters.pack(all_tensors(net)).digest


# ---- the loss --------------------------------------------------------------------------------------------------------


def repeated(batch: Batch, person: int, times: int) -> Batch:
    """The batch in which one person's rows are there several times."""
    counts = torch.where(batch.owner == person, times, 1)
    rows = torch.repeat_interleave(torch.arange(len(batch.owner)), counts)
    inputs = Inputs(
        None if batch.inputs.image is None else batch.inputs.image[rows],
        {name: table[rows] for name, table in batch.inputs.tables.items()},
        {name: present[rows] for name, present in batch.inputs.present.items()},
    )
    return Batch(inputs, batch.owner[rows], batch.labels)


def test_a_person_weighs_the_same_however_many_images_there_are(images: Split) -> None:
    """SCIENCE section 5, pitfalls 10 and 15: somebody with ten images counts once."""
    reader = reader_of(images, image_study())
    net = reader.model.net.eval()
    (batch,) = reader.whole(images.train)
    once = participant_loss(net, batch)
    for person in range(len(images.train)):
        torch.testing.assert_close(participant_loss(net, repeated(batch, person, 5)), once)


def test_the_loss_is_the_mean_over_people_of_the_mean_over_their_images(images: Split) -> None:
    reader = reader_of(images, image_study())
    net = reader.model.net.eval()
    (batch,) = reader.whole(images.train)
    logits, labels = net(batch.inputs), batch.labels
    people = []
    for person in range(len(labels)):
        own = logits[batch.owner == person]
        people.append(-(labels[person] * own.sigmoid().log() + (1 - labels[person]) * (-own).sigmoid().log()).mean())
    torch.testing.assert_close(participant_loss(net, batch), torch.stack(people).mean())


# ---- predictions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trainable", TRAINABLE)
def test_a_persons_logit_is_the_mean_over_the_persons_images(images: Split, trainable: str) -> None:
    """SCIENCE 4.3: from the pixels to the logit by hand, one image at a time."""
    study = image_study(model={"trainable": trainable, "modalities": ["image"]})
    reader, people = reader_of(images, study), everyone(images.cohort)
    assert reader.model.frozen is not None
    predicted = predict(reader.model.net, reader, people)
    pixels = torch.from_numpy(images.cohort.pixels[np.arange(len(images.cohort.owner))])
    with torch.no_grad():
        features = reader.model.net.branches["image"](reader.model.frozen(pixels[:, None].float() / 255))
        logits = reader.model.net.output(features)[:, 0].numpy()
    expected = [logits[images.cohort.owner == i].mean() for i in range(11)]
    np.testing.assert_allclose(predicted[:11], expected, rtol=2e-3, atol=2e-3)  # kept in half precision
    assert np.std(expected) > 0.01


@pytest.mark.parametrize("trainable", TRAINABLE)
def test_a_prediction_does_not_depend_on_who_is_scored_beside(images: Split, trainable: str) -> None:
    reader = reader_of(images, image_study(model={"trainable": trainable}))
    people = everyone(images.cohort)
    together = predict(reader.model.net, reader, people)
    alone = [predict(reader.model.net, reader, some(people, [i]))[0] for i in range(len(people))]
    np.testing.assert_allclose(alone, together, atol=1e-5)


def with_copies(source: Path, folder: Path, times: int) -> Path:
    """The site with further copies of every image, listed backwards."""
    shutil.copytree(source, folder)
    images, places = read_csv(source / "images.csv"), read_csv(source / "calibration.csv")
    rows, calibrations = [*images], [*places]
    for k in range(1, times):
        for row in images:
            name = f"images/copy{k}_{Path(row['image']).name}"
            shutil.copy(source / row["image"], folder / name)
            rows.append({**row, "image": name})
            calibrations += [{**p, "image": name} for p in places if p["image"] == row["image"]]
    write_rows(folder / "images.csv", rows[::-1])
    write_rows(folder / "calibration.csv", calibrations)
    return folder


@pytest.mark.parametrize("trainable", TRAINABLE)
def test_a_persons_logit_depends_neither_on_the_order_nor_on_copies_of_the_images(
    images: Split, image_folder: Path, tmp_path: Path, trainable: str
) -> None:
    """SCIENCE 4.3 and pitfall 10: how many images there are, and in which order, says nothing of a person."""
    study = image_study(model={"trainable": trainable})
    reader, once = reader_of(images, study), everyone(images.cohort)
    expected = predict(reader.model.net, reader, once)
    for times in (1, 3):
        other = everyone(opened(with_copies(image_folder, tmp_path / f"{times}", times), study))
        assert len(other.cohort.owner) == times * len(once.cohort.owner)
        np.testing.assert_allclose(predict(reader.model.net, reader, other), expected, atol=1e-5)
    assert np.std(expected) > 1e-3


def test_predictions_of_many_people_come_in_their_order(tmp_path: Path) -> None:
    """More than are scored at once."""
    study = tables_study()
    parts = split(opened(tables_site(tmp_path / "many", 150), study), study.split, 1)
    reader, people = reader_of(parts, study), everyone(parts.cohort)
    backwards = HeldOut(parts.cohort, people.members[::-1].copy())
    together = predict(reader.model.net, reader, people)
    np.testing.assert_allclose(predict(reader.model.net, reader, backwards), together[::-1], atol=1e-6)
    assert together.shape == (150,)


def test_of_nobody_there_is_no_prediction(tables: Split) -> None:
    reader = reader_of(tables, tables_study())
    assert predict(reader.model.net, reader, some(tables.test, [])).shape == (0,)


def test_scoring_changes_neither_weights_nor_random_state(images: Split) -> None:
    reader = reader_of(images, image_study(model={"modality_dropout": 0.5}))
    before, state = digest(reader.model.net), torch.get_rng_state()
    first = predict(reader.model.net, reader, images.test)
    np.testing.assert_array_equal(predict(reader.model.net, reader, images.test), first)
    assert digest(reader.model.net) == before
    assert torch.equal(torch.get_rng_state(), state)


# ---- missing modalities ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trainable", TRAINABLE)
@pytest.mark.parametrize("tabular", ["joint", "per_group"])
def test_whoever_lacks_a_modality_has_a_prediction(images: Split, trainable: str, tabular: str) -> None:
    """P011 has no image, P000 no laboratory values, P001 nothing but images, and one has nothing at all."""
    study = image_study(model={"trainable": trainable, "tabular": tabular})

    def lacking(table: NDArray[np.float64]) -> None:
        table[0, 6:] = table[1] = table[11] = np.nan

    people = everyone(with_table(images.cohort, lacking))
    reader = reader_of(images, study)
    assert np.isfinite(predict(reader.model.net, reader, people)).all()


def test_a_prediction_does_not_depend_on_what_stands_for_an_absent_group(images: Split) -> None:
    """With a branch for each group, other sites' laboratory means do not move somebody without a laboratory."""
    study = image_study(model={"tabular": "per_group"})

    def lacking(table: NDArray[np.float64]) -> None:
        table[:6, 6:] = np.nan

    people = everyone(with_table(images.cohort, lacking))
    reader = reader_of(images, study)
    fill = reader.scaling.fill + np.array([0] * 6 + [8.0, 3.0])
    other = replace(reader, scaling=replace(reader.scaling, fill=fill))
    before, after = (predict(reader.model.net, r, people) for r in (reader, other))
    np.testing.assert_array_equal(before[:6], after[:6])


def test_a_missing_value_in_a_group_that_is_there_counts_as_the_agreed_mean(tables: Split) -> None:
    reader = reader_of(tables, tables_study())

    def lacking(table: NDArray[np.float64]) -> None:
        table[:, 5] = np.nan

    def mean(table: NDArray[np.float64]) -> None:
        table[:, 5] = reader.scaling.fill[5]

    absent, imputed = (everyone(with_table(tables.cohort, change)) for change in (lacking, mean))
    np.testing.assert_array_equal(predict(reader.model.net, reader, absent), predict(reader.model.net, reader, imputed))


@pytest.mark.parametrize("trainable", TRAINABLE)
def test_a_site_without_any_image_trains_and_predicts_with_its_tables(tmp_path: Path, trainable: str) -> None:
    """And so does a batch in which nobody happens to have one."""
    study = image_study(model={"trainable": trainable})
    parts = split(opened(image_site(tmp_path / "none", 12, without=12), study), study.split, 1)
    assert not len(parts.cohort.owner)
    reader = reader_of(parts, study)
    assert np.isfinite(fit(training_of(reader, parts.train), seed=1)).all()
    assert np.isfinite(predict(reader.model.net, reader, everyone(parts.cohort))).all()


@pytest.mark.parametrize("trainable", TRAINABLE)
def test_training_people_without_images_at_a_site_that_has_some(images: Split, trainable: str) -> None:
    study = image_study(model={"trainable": trainable}, training={"balance_classes": False})
    reader = reader_of(images, study)
    alone = TrainingPeople(images.cohort, np.array([11]))
    (batch,) = reader.batches(alone, np.random.default_rng(0))
    assert not batch.inputs.present["image"].any()
    assert torch.isfinite(participant_loss(reader.model.net, batch))


# ---- an epoch --------------------------------------------------------------------------------------------------------


def people_of(epoch: Iterator[Batch] | list[Batch], reader: Reader, people: TrainingPeople) -> list[int]:
    """Positions, among ``people``, of everybody in these batches; their ages tell them apart."""
    ages = {float(row[0]): i for i, row in enumerate(reader.scaling(people.table))}
    assert len(ages) == len(people)
    found = []
    for batch in epoch:
        first = [int((batch.owner == i).nonzero()[0]) for i in range(len(batch.labels))]
        mine = [ages[float(batch.inputs.tables["table"][row, 0])] for row in first]
        assert batch.labels.tolist() == people.labels[mine].tolist()
        found += mine
    return found


def of_all_ages(parts: Split) -> TrainingPeople:
    """Training people of whom no two are of one age."""

    def ages(table: NDArray[np.float64]) -> None:
        table[:, 0] = 30 + np.arange(len(table))

    return TrainingPeople(with_table(parts.cohort, ages), parts.train.members)


def test_each_epoch_takes_as_many_of_either_class_and_other_people_of_the_larger(tables: Split) -> None:
    """Down-sampled inside the training loader only, anew in every epoch (SCIENCE section 5, pitfall 6)."""
    reader, people = reader_of(tables, tables_study()), of_all_ages(tables)
    rng = np.random.default_rng(1)
    epochs = [people_of(reader.batches(people, rng), reader, people) for _ in range(8)]
    positive = set(np.flatnonzero(people.labels == 1))
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == 2 * len(positive)
        assert positive <= set(epoch)
    assert len({frozenset(epoch) for epoch in epochs}) > 1
    assert set().union(*epochs) == set(range(len(people)))
    assert not any(sorted(epoch) == epoch for epoch in epochs)  # shuffled


def test_without_balancing_everybody_is_there_once(tables: Split) -> None:
    study = tables_study(training={"balance_classes": False, "batch_participants": 5})
    reader, people = reader_of(tables, study), of_all_ages(tables)
    batches = list(reader.batches(people, np.random.default_rng(1)))
    assert sorted(people_of(batches, reader, people)) == list(range(len(people)))
    assert [len(b.labels) for b in batches[:-1]] == [5] * (len(batches) - 1)


@pytest.mark.parametrize("label", [0, 1])
def test_a_site_of_one_class_takes_everybody(tables: Split, label: int) -> None:
    people = TrainingPeople(tables.cohort, tables.train.members[tables.train.labels == label])
    study = tables_study()
    reader = reader_of(tables, study)
    batches = list(reader.batches(people, np.random.default_rng(1)))
    assert sum(len(b.labels) for b in batches) == len(people)
    assert steps_per_epoch(people, study.training) == len(batches)


@pytest.mark.parametrize("balance", [True, False])
@pytest.mark.parametrize("size", [1, 4, 7, 100])
def test_the_number_of_steps_is_known_beforehand(tables: Split, balance: bool, size: int) -> None:
    study = tables_study(training={"balance_classes": balance, "batch_participants": size})
    batches = list(reader_of(tables, study).batches(tables.train, np.random.default_rng(1)))
    assert steps_per_epoch(tables.train, study.training) == len(batches)


def test_an_epoch_draws_at_most_so_many_images_of_each(tmp_path: Path) -> None:
    study = image_study(training={"images_per_participant": 2, "balance_classes": False})
    parts = split(opened(image_site(tmp_path / "gamma", 12, images=5), study), study.split, 1)
    reader = reader_of(parts, study)
    drawn = []
    for batch in reader.batches(parts.train, np.random.default_rng(1)):
        drawn += torch.bincount(batch.owner).tolist()
        assert (torch.diff(batch.owner) >= 0).all()
    had = [len(parts.cohort.images_of(np.array([m]))) for m in parts.train.members]
    assert sorted(drawn) == sorted(min(2, n) for n in had)
    assert max(had) > 2


def test_an_epoch_is_the_same_for_the_same_generator(images: Split) -> None:
    for trainable in TRAINABLE:
        reader = reader_of(images, image_study(model={"trainable": trainable}))
        one, other = (list(reader.batches(images.train, np.random.default_rng(3))) for _ in range(2))
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a.inputs.image, b.inputs.image)  # type: ignore[arg-type]
            assert torch.equal(a.labels, b.labels)


def test_epochs_follow_one_another() -> None:
    batches: list[Any] = ["a", "b", "c"]
    assert list(chained([batches[:2], [], batches[2:]])) == batches


# ---- fit -------------------------------------------------------------------------------------------------------------


def test_fit_leaves_the_callers_random_state_alone(tables: Split) -> None:
    reader = reader_of(tables, tables_study())
    torch.manual_seed(5)
    state = torch.get_rng_state()
    fit(training_of(reader, tables.train), seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_fit_is_deterministic_for_its_seed(tables: Split) -> None:
    """Whatever the state of the process: a round can be repeated and is the same round."""

    def trained(seed: int, state: int) -> str:
        torch.manual_seed(state)
        reader = reader_of(tables, tables_study())
        fit(training_of(reader, tables.train), seed=seed)
        return digest(reader.model.net)

    assert trained(1, 0) == trained(1, 99)
    assert trained(1, 0) != trained(2, 0)  # other dropout


@pytest.mark.parametrize("trainable", TRAINABLE)
def test_fit_changes_what_is_trained_and_nothing_that_is_frozen(images: Split, trainable: str) -> None:
    reader = reader_of(images, image_study(model={"trainable": trainable}))
    assert reader.model.frozen is not None
    frozen = digest(reader.model.frozen)
    before = {name: p.detach().clone() for name, p in trained_tensors(reader.model.net).items()}
    losses = fit(training_of(reader, images.train), seed=1)
    assert len(losses) == steps_per_epoch(images.train, reader.study.training)
    assert digest(reader.model.frozen) == frozen
    unchanged = [name for name, p in reader.model.net.named_parameters() if torch.equal(p, before[name])]
    assert unchanged == []


@pytest.mark.parametrize("trainable", TRAINABLE)
def test_no_statistics_of_private_images_are_left_by_training_with_frozen_norms(images: Split, trainable: str) -> None:
    """STYLE 7.1: training the head alone moved a running mean by .55, unseen by Opacus."""
    network = {"backbone": "efficientnet_b0", "norm": "frozen", "weights": "w.safetensors", "trainable": trainable}
    reader = reader_of(images, image_study(model=network))
    model, alive = reader.model, list[nn.Module]()
    for module in [*model.net.modules(), *(model.frozen or nn.Module()).modules()]:
        module.register_forward_pre_hook(
            lambda m, _: alive.append(m) if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training else None
        )
    fixed, trained = ({n: t.clone() for n, t in found.items()} for found in (fixed_tensors(model), _image(model)))
    fit(training_of(reader, images.train), seed=1)
    assert alive == []
    assert any(name.endswith(".mean") for name in fixed)
    assert all(torch.equal(t, fixed[name]) for name, t in fixed_tensors(model).items())
    assert not [name for name, t in _image(model).items() if torch.equal(t, trained[name])]


def _image(model: Model) -> dict[str, Tensor]:
    return {n: t.detach() for n, t in trained_tensors(model.net).items() if n.startswith("branches.image.")}


def test_absent_images_are_not_in_the_statistics_of_local_norms(images: Split) -> None:
    """A person without any image has a row of zeros, which no norm may see."""
    study = image_study(image={"size": 64}, model={"backbone": "efficientnet_b0", "norm": "local"})
    model = model_of(study)
    x, present = torch.rand(4, 1, 64, 64), torch.tensor([True, True, False, True])
    tables = {"table": torch.zeros(4, 8)}
    statistics = []
    for stand_in in (torch.zeros(64, 64), torch.full((64, 64), 9.0)):
        x[2] = stand_in
        net = copy.deepcopy(model.net).train()
        net(Inputs(x, tables, {"image": present, "table": torch.ones(4, dtype=torch.bool)}))
        statistics.append(Parameters.pack(local_tensors(net)).digest)
    assert statistics[0] == statistics[1]
    assert statistics[0] != Parameters.pack(local_tensors(model.net)).digest


def test_a_site_without_images_leaves_the_image_branch_as_it_came(images: Split) -> None:
    """Not even weight decay moves what learned nothing."""
    reader = reader_of(images, image_study(training={"balance_classes": False}))
    alone = TrainingPeople(images.cohort, np.array([11]))  # P011 has no image
    before = {name: p.detach().clone() for name, p in reader.model.net.named_parameters()}
    fit(training_of(reader, alone), seed=1)
    moved = [name for name, p in reader.model.net.named_parameters() if not torch.equal(p, before[name])]
    assert "absent.image" in moved
    assert not [name for name in moved if name.startswith("branches.image.")]


def test_training_learns_what_is_there_to_learn(tables: Split) -> None:
    study = tables_study(model={"dropout": 0.0}, training={"learning_rate": 0.01})
    reader = reader_of(tables, study)
    rng = np.random.default_rng(0)
    batches = chained(reader.batches(tables.train, rng) for _ in range(60))
    net = reader.model.net
    losses = fit(Training(net, adamw(net, study.training), batches, participant_loss, lambda _: 1.0), seed=1)
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_the_rate_of_each_step_is_a_factor_on_each_groups_own(tables: Split) -> None:
    reader = reader_of(tables, tables_study(training={"weight_decay": 0.0}))
    net, seen = reader.model.net, []
    first, second = list(net.parameters())[:2], list(net.parameters())[2:]
    optimizer = torch.optim.AdamW([{"params": first, "lr": 0.5}, {"params": second, "lr": 0.25}])

    def loss(net: FusionNet, batch: Batch) -> Tensor:
        seen.append([group["lr"] for group in optimizer.param_groups])
        return participant_loss(net, batch)

    batches = list(reader.batches(tables.train, np.random.default_rng(0)))[:3]
    fit(Training(net, optimizer, batches, loss, lambda step: 1 / (step + 1)), seed=0)
    assert seen == [[0.5, 0.25], [0.25, 0.125], [0.5 / 3, 0.25 / 3]]


def test_the_image_branch_may_have_a_learning_rate_of_its_own() -> None:
    study = image_study(training={"learning_rate": 0.1, "backbone_learning_rate": 0.001, "weight_decay": 0.5})
    net = model_of(study).net
    image, rest = adamw(net, study.training).param_groups
    assert (image["lr"], rest["lr"], image["weight_decay"], rest["weight_decay"]) == (0.001, 0.1, 0.5, 0.5)
    assert {id(p) for p in image["params"]} == {id(p) for p in net.branches["image"].parameters()}
    assert len(image["params"]) + len(rest["params"]) == len(list(net.parameters()))
    (only,) = adamw(model_of(tables_study()).net, study.training).param_groups
    assert only["lr"] == 0.1


def test_the_studys_optimizer_is_the_one_that_trains(tables: Split) -> None:
    """SGD with momentum as in Sutskever et al. (2013), by hand over three steps; AdamW unless the study says so."""
    assert isinstance(build_optimizer(model_of(tables_study()).net, tables_study().training), torch.optim.AdamW)
    study = tables_study(
        model={"dropout": 0.0},
        training={"optimizer": "sgd", "momentum": 0.5, "learning_rate": 0.1, "weight_decay": 0.01},
    )
    reader = reader_of(tables, study)
    net, by_hand_ = reader.model.net, copy.deepcopy(reader.model.net)
    batches = list(reader.batches(tables.train, np.random.default_rng(0)))[:3]
    fit(Training(net, build_optimizer(net, study.training), batches, participant_loss, lambda _: 1.0), seed=1)
    speed = {name: torch.zeros_like(p) for name, p in by_hand_.named_parameters()}
    for batch in batches:
        found = gradients(by_hand_, participant_loss(by_hand_, batch))
        with torch.no_grad():
            for name, p in by_hand_.named_parameters():
                speed[name] = 0.5 * speed[name] + found[name] + 0.01 * p
                p -= 0.1 * speed[name]
    for p, q in zip(net.parameters(), by_hand_.parameters(), strict=True):
        torch.testing.assert_close(p, q)


# ---- FedProx ---------------------------------------------------------------------------------------------------------


def nothing(net: FusionNet, _: Batch) -> Tensor:
    return torch.stack([(0 * p).sum() for p in net.parameters()]).sum()


def gradients(net: FusionNet, loss: Tensor) -> Mapping[str, Tensor]:
    names = [name for name, _ in net.named_parameters()]
    return dict(zip(names, torch.autograd.grad(loss, list(net.parameters())), strict=True))


def test_the_proximal_terms_gradient_is_mu_times_the_distance(tables: Split) -> None:
    """Li et al. 2020, equation 2."""
    reader = reader_of(tables, tables_study())
    net, mu = reader.model.net, 0.3
    (batch,) = reader.whole(tables.train)
    generator = torch.Generator().manual_seed(1)
    anchor = {n: p.detach() + torch.randn(p.shape, generator=generator) for n, p in net.named_parameters()}
    pull = gradients(net, proximal(anchor, mu)(net) + nothing(net, batch))
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(pull[name], mu * (parameter.detach() - anchor[name]))
    distance = sum(float(((p.detach() - anchor[n]) ** 2).sum()) for n, p in net.named_parameters())
    assert float(proximal(anchor, mu)(net).detach()) == pytest.approx(mu / 2 * distance, rel=1e-5)


def test_at_the_rounds_own_model_the_proximal_term_is_nothing(tables: Split) -> None:
    reader = reader_of(tables, tables_study())
    net = reader.model.net.eval()
    (batch,) = reader.whole(tables.train)
    anchor = {n: p.detach().clone() for n, p in net.named_parameters()}
    plain = participant_loss(net, batch)
    pulled = plain + proximal(anchor, 5.0)(net)
    assert float(plain.detach()) == float(pulled.detach())
    for a, b in zip(
        gradients(net, participant_loss(net, batch)).values(), gradients(net, pulled).values(), strict=True
    ):
        assert torch.equal(a, b)


# ---- learning rates over the study -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("rounds", "warmup", "steps"), [(5, 1, 4), (10, 3, 1), (3, 0, 7), (2, 1, 1)])
def test_warm_up_is_a_line_and_the_rest_a_cosine(rounds: int, warmup: int, steps: int) -> None:
    """Closed form over the steps of the whole study."""
    seen = [
        warmup_cosine(round_=r, rounds=rounds, warmup_rounds=warmup, steps=steps)(s)
        for r in range(1, rounds + 1)
        for s in range(steps)
    ]
    line = [(k + 1) / (warmup * steps) for k in range(warmup * steps)]
    rest = (rounds - warmup) * steps
    cosine = [0.5 * (1 + math.cos(math.pi * k / rest)) for k in range(rest)]
    np.testing.assert_allclose(seen, line + cosine, atol=1e-12)
    assert all(0 < rate <= 1 for rate in seen)
    assert all(a > b for a, b in pairwise(seen[warmup * steps :]))


def test_a_study_shorter_than_its_warm_up_only_warms_up() -> None:
    rates = [warmup_cosine(round_=r, rounds=2, warmup_rounds=4, steps=2)(s) for r in (1, 2) for s in (0, 1)]
    np.testing.assert_allclose(rates, [1 / 8, 2 / 8, 3 / 8, 4 / 8])


# ---- what is kept ----------------------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path) -> Split:
    """A site of its own, with nothing kept yet."""
    return split(opened(image_site(tmp_path / "own", 12, 4), image_study()), SplitConfig(), 1)


def calls(reader: Reader) -> list[int]:
    """Number of images in each pass through the frozen layers from here on."""
    seen: list[int] = []
    assert reader.model.frozen is not None
    reader.model.frozen.register_forward_hook(lambda _module, args, _out: seen.append(len(args[0])))
    return seen


def by_hand(reader: Reader, pixels: NDArray[np.uint8]) -> Tensor:
    assert reader.model.frozen is not None
    with torch.no_grad():
        out: Tensor = reader.model.frozen(torch.from_numpy(pixels)[:, None].float() / 255)
    return out.half().float()


@pytest.mark.parametrize("trainable", ["head", "last_stage"])
def test_kept_features_are_those_that_would_be_computed(own: Split, trainable: str) -> None:
    """In half precision; computed once per image, for every later reader of the same frozen weights."""
    study = image_study(model={"trainable": trainable})
    reader = reader_of(own, study)
    (batch,) = reader.whole(own.train)
    expected = by_hand(reader, own.cohort.pixels[own.train.images])
    assert batch.inputs.image is not None
    torch.testing.assert_close(batch.inputs.image, expected, rtol=1e-3, atol=1e-3)
    again = reader_of(own, study)
    seen = calls(again)
    (same,) = again.whole(own.train)
    assert torch.equal(same.inputs.image, batch.inputs.image)  # type: ignore[arg-type]
    assert seen == []


def test_training_reads_kept_views_of_the_image_and_its_augmentations(own: Split) -> None:
    """Every row is the image itself or one of its augmented views, made from seed, view and image alone."""
    study = image_study(
        model={"trainable": "head"}, augmentation={"cached_views": 3}, training={"balance_classes": False}
    )
    reader = reader_of(own, study)
    pixels, augment = own.cohort.pixels, augmentation(study.augmentation)
    views = [by_hand(reader, pixels[own.train.images])]
    for view in (1, 2):
        changed = [
            augment(pixels[np.array([i])][0], np.random.default_rng([1, view, int(i)])) for i in own.train.images
        ]
        views.append(by_hand(reader, np.array(changed)))
    known = torch.stack(views)
    seen = set()
    for epoch in range(30):
        for batch in reader.batches(own.train, np.random.default_rng(epoch)):
            assert batch.inputs.image is not None
            for row in batch.inputs.image:
                near = (known - row).abs().amax(dim=2)
                view, image = divmod(int(near.argmin()), known.shape[1])
                assert near[view, image] < 2e-3
                seen.add((view, image))
    assert seen == {(v, i) for v in range(3) for i in range(len(own.train.images))}


def test_prepared_people_cost_no_pass_through_the_frozen_layers(own: Split) -> None:
    reader = reader_of(own, image_study(model={"trainable": "last_stage"}))
    reader.prepare(own.train)
    reader.prepare(own.test)
    seen = calls(reader)
    list(reader.batches(own.train, np.random.default_rng(0)))
    list(reader.whole(own.test))
    assert seen == []


def test_with_one_view_training_reads_the_images_themselves(own: Split) -> None:
    study = image_study(model={"trainable": "head"}, augmentation={"cached_views": 1})
    reader = reader_of(own, study)
    reader.prepare(own.train)
    seen = calls(reader)
    list(reader.batches(own.train, np.random.default_rng(0)))
    assert seen == []
    assert len(list(own.cohort.caches[0].folder.glob("views-*"))) == 0


def test_other_frozen_weights_are_never_read_from_what_was_kept(own: Split) -> None:
    study = image_study(model={"trainable": "head"})
    reader = reader_of(own, study)
    (before,) = reader.whole(own.train)
    assert reader.model.frozen is not None
    with torch.no_grad():
        for parameter in reader.model.frozen.parameters():
            parameter.mul_(1.5)
    (after,) = Reader.of(reader.model, reader.scaling, study).whole(own.train)
    assert not torch.equal(before.inputs.image, after.inputs.image)  # type: ignore[arg-type]


def test_people_who_change_sides_are_read_as_themselves(own: Split) -> None:
    """A corrected label moves people into training: their kept views are not found empty."""
    study = image_study(model={"trainable": "head"}, training={"balance_classes": False})
    reader = reader_of(own, study)
    reader.prepare(own.train)
    moved = TrainingPeople(own.cohort, own.test.members)
    for epoch in range(5):
        for batch in reader.batches(moved, np.random.default_rng(epoch)):
            assert batch.inputs.image is not None
            assert (batch.inputs.image.abs().sum(dim=1) > 0).all()


def test_with_every_layer_trained_images_are_augmented_anew(own: Split) -> None:
    reader = reader_of(own, image_study(training={"balance_classes": False}))
    rng = np.random.default_rng(0)
    one, other = (torch.cat([b.inputs.image for b in reader.batches(own.train, rng)]) for _ in range(2))  # type: ignore[misc]
    assert not torch.equal(one.sum(), other.sum())
    assert list(own.cohort.caches[0].folder.glob("*-*.npy")) == []


def test_only_what_training_may_change_is_counted() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1).requires_grad_(False))
    assert count_parameters(net) == 16


def seen(tmp_path: Path, draw: int, epoch: int) -> tuple[set[bytes], set[bytes]]:
    """Positive and negative participants of one epoch, each by the numbers of its tables."""
    config = tables_study(training={"draws": 3, "draw": draw})
    folder = tmp_path / "site"
    cohort = opened(folder if folder.exists() else tables_site(folder, 60, missing=0.0), config)
    people = TrainingPeople(cohort, np.arange(60))
    scaling = agreed_scaling(config, Moments.of(people, design_columns(config.features), extremes=False))
    found: tuple[set[bytes], set[bytes]] = set(), set()
    for batch in Reader.of(model_of(config), scaling, config).batches(people, np.random.default_rng(epoch)):
        rows = torch.cat(list(batch.inputs.tables.values()), dim=1)
        for row, label in zip(rows, batch.labels, strict=True):
            found[0 if label == 1 else 1].add(row.numpy().tobytes())
    return found


def test_a_balanced_draw_is_the_same_in_every_epoch_and_shares_nobody_with_the_next(tmp_path: Path) -> None:
    drawn = [[seen(tmp_path, draw, epoch) for epoch in range(2)] for draw in range(3)]
    for of_draw in drawn:
        assert of_draw[0] == of_draw[1]
        assert (len(of_draw[0][0]), len(of_draw[0][1])) == (20, 20)
    negatives = [of_draw[0][1] for of_draw in drawn]
    assert not negatives[0] & negatives[1]
    assert len(set.union(*negatives)) == 40  # all of them: the third draw begins again
    assert drawn[0][0][0] == drawn[1][0][0] == drawn[2][0][0]
