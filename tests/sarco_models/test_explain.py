"""Modality and feature contributions of real networks on tiny sites, against closed forms and brute force."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit
from torch import nn

from sarco_models import explain
from sarco_models.cohort import HeldOut, Split, TrainingPeople, split
from sarco_models.composites import Composites, background_people, feature_columns, modality_columns
from sarco_models.config import IMAGE, SplitConfig, StudyConfig
from sarco_models.errors import UndefinedMetric
from sarco_models.explain import FeatureShap, ModalityShapley, feature_shap, modality_shapley
from sarco_models.fusion import build_model
from sarco_models.schema import design_columns
from sarco_models.shapley import shapley
from sarco_models.summaries import Moments, agreed_scaling
from sarco_models.training import Reader, predict
from tests.sites import image_site, image_study, opened, read_csv, tables_study, write_rows

STUDIES: dict[str, StudyConfig] = {
    "joint": image_study(model={"trainable": "last_stage", "weights": "phantom"}),
    "per_group": image_study(model={"trainable": "head", "weights": "phantom", "tabular": "per_group"}),
    "tables": tables_study(),
    "image": image_study(model={"modalities": ["image"], "weights": "phantom"}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14 people; the last two have no image, the third and fifth no laboratory values, the eleventh no table."""
    folder = image_site(tmp_path_factory.mktemp("explain") / "site", 14, 3, without=2)
    rows = read_csv(folder / "participants.csv")
    for i in (2, 4):
        rows[i] |= {"albumin_g_per_l": "", "hba1c_percent": ""}
    for i in (0, 6):
        rows[i] |= {"albumin_g_per_l": "41.0", "smoking": ""}
    rows[10] |= dict.fromkeys(("age_years", "male", "smoking", "weight_kg", "albumin_g_per_l", "hba1c_percent"), "")
    write_rows(folder / "participants.csv", rows)
    return folder


def network(folder: Path, study: StudyConfig) -> tuple[Reader, Split]:
    """A network whose every part matters: random weights, absent vectors that are not zero, large outputs."""
    parts = split(opened(folder, study), SplitConfig(), 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(study)
        for vector in model.net.absent.values():
            nn.init.normal_(vector)
        nn.init.normal_(model.net.output.weight, std=0.1)
        for name, branch in model.net.branches.items():
            for parameter in branch.parameters() if name != IMAGE else ():
                parameter.data.mul_(4)  # tables far from linear
    moments = Moments.of(parts.train, design_columns(study.features), extremes=True)
    return Reader.of(model, agreed_scaling(study, moments), study), parts


@pytest.fixture(scope="module")
def networks(folder: Path) -> Callable[[str], tuple[Reader, Split]]:
    made = {name: network(folder, study) for name, study in STUDIES.items()}
    return made.__getitem__


def everybody(parts: Split) -> HeldOut:
    return HeldOut(parts.cohort, np.arange(len(parts.cohort)))


def explained(networks: Callable[[str], tuple[Reader, Split]], kind: str, **options: object) -> ModalityShapley:
    reader, parts = networks(kind)
    return modality_shapley(reader, everybody(parts), parts.train, np.random.default_rng(0), **options)  # type: ignore[arg-type]


# ---- composites ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", STUDIES)
@pytest.mark.parametrize("columns", [modality_columns, feature_columns])
def test_a_person_of_own_parts_alone_is_the_person(
    networks: Callable[[str], tuple[Reader, Split]], kind: str, columns: Callable[[StudyConfig], dict[str, list[int]]]
) -> None:
    """What is encoded once and scored late is what the model predicts, for whoever lacks an image or a table too."""
    reader, parts = networks(kind)
    people = everybody(parts)
    composites = Composites.of(reader, [people], columns(reader.study))
    own = np.arange(len(people))
    found = composites.logits(dict.fromkeys(composites.columns, own))
    np.testing.assert_allclose(found, predict(reader.model.net, reader, people), atol=1e-4, rtol=1e-4)
    assert np.ptp(found) > 0.02


def test_a_composite_has_each_part_of_whom_it_is_said_to_be(networks: Callable[[str], tuple[Reader, Split]]) -> None:
    """One person's image and clinical values with another's laboratory: the table is built by hand and scored."""
    reader, parts = networks("joint")
    people = everybody(parts)
    composites = Composites.of(reader, [people], modality_columns(reader.study))
    first, second = np.array([0]), np.array([9])
    found = composites.logits({"image": first, "clinical": first, "lab": second})
    table = people.table[[0]].copy()
    table[:, 6:] = people.table[[9], 6:]
    mixed = HeldOut(replace(parts.cohort, table=np.concatenate([table, people.table[1:]])), people.members)
    assert found[0] == pytest.approx(predict(reader.model.net, reader, mixed)[0], abs=1e-4)
    assert found[0] != pytest.approx(predict(reader.model.net, reader, people)[0], abs=1e-3)


def test_a_categorical_feature_is_one_part_with_all_its_columns() -> None:
    columns = feature_columns(STUDIES["joint"])
    assert list(columns) == [
        "image", "age_years", "male", "smoking", "weight_kg", "albumin_g_per_l", "hba1c_percent",
    ]  # fmt: skip
    assert [list(own) for own in columns.values()] == [[], [0], [1], [2, 3, 4], [5], [6], [7]]
    assert modality_columns(STUDIES["joint"]) == {"image": [], "clinical": [0, 1, 2, 3, 4, 5], "lab": [6, 7]}


def test_background_people_are_training_people_who_have_everything(
    networks: Callable[[str], tuple[Reader, Split]],
) -> None:
    reader, parts = networks("joint")
    lacking = {2, 4, 10, 12, 13}
    found = background_people(reader.study, parts.train, 100, np.random.default_rng(0))
    assert set(found.members.tolist()) == set(parts.train.members.tolist()) - lacking
    assert len(background_people(reader.study, parts.train, 3, np.random.default_rng(0))) == 3
    with pytest.raises(TypeError, match="TrainingPeople"):
        background_people(reader.study, parts.test, 100, np.random.default_rng(0))  # type: ignore[arg-type]
    poor = TrainingPeople(parts.cohort, np.array([2, 12]))
    with pytest.raises(UndefinedMetric, match="none of 2 training participants has image, clinical, lab"):
        background_people(reader.study, poor, 100, np.random.default_rng(0))


# ---- modalities ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", STUDIES)
@pytest.mark.parametrize("scale", ["logit", "probability"])
def test_start_and_contributions_add_up_to_the_models_score(
    networks: Callable[[str], tuple[Reader, Split]], kind: str, scale: str
) -> None:
    reader, parts = networks(kind)
    found = explained(networks, kind, scale=scale)
    score = predict(reader.model.net, reader, everybody(parts))
    np.testing.assert_allclose(found.scores, expit(score) if scale == "probability" else score, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(found.start + found.contributions.sum(axis=0), found.scores, atol=1e-12)


def test_where_fusion_adds_a_contribution_is_what_the_branch_adds_over_the_background(
    networks: Callable[[str], tuple[Reader, Split]],
) -> None:
    """One branch per modality, logits: phi = w (h(x) - mean h(b)), without any coalition."""
    reader, parts = networks("per_group")
    net, people = reader.model.net.eval(), everybody(parts)
    standing_in = background_people(reader.study, parts.train, 100, np.random.default_rng(0))
    rows = {"people": next(reader.whole(people)), "background": next(reader.whole(standing_in))}
    start = 0
    found = explained(networks, "per_group")
    for m, (name, branch) in enumerate(net.branches.items()):
        width = net.absent[name].numel()
        weight = net.output.weight[0, start : start + width]
        start += width
        added = {}
        for who, batch in rows.items():
            x = batch.inputs.image if name == IMAGE else batch.inputs.tables[name]
            assert x is not None
            each = (branch(x) @ weight).detach().double()
            counts = torch.bincount(batch.owner)
            added[who] = torch.zeros(len(counts), dtype=torch.float64).index_add(0, batch.owner, each) / counts
        expected = (added["people"] - added["background"].mean()).numpy()
        here = found.present[m]
        assert 0 < here.sum() < len(here)
        np.testing.assert_allclose(found.contributions[m, here], expected[here], atol=1e-4)
        assert (found.contributions[m, ~here] == 0).all()


@pytest.mark.parametrize("kind", ["joint", "per_group"])
def test_what_a_person_lacks_contributes_nothing_and_stays_absent(
    networks: Callable[[str], tuple[Reader, Split]], kind: str
) -> None:
    found = explained(networks, kind, scale="probability")
    image, clinical, lab = found.contributions
    assert np.flatnonzero(~found.present[0]).tolist() == [12, 13]
    assert {2, 4, 10} <= set(np.flatnonzero(~found.present[2]).tolist())
    assert (image[~found.present[0]] == 0).all()
    assert (lab[~found.present[2]] == 0).all()
    assert clinical[10] == 0
    assert np.median(np.abs(image[found.present[0]])) > 1e-3
    assert np.median(np.abs(lab[found.present[2]])) > 1e-4
    whole = found.present.all(axis=0)
    assert np.ptp(found.start[whole]) == pytest.approx(0, abs=1e-6)  # the same question for all who lack nothing


def test_a_modality_that_the_output_ignores_contributes_nothing(
    networks: Callable[[str], tuple[Reader, Split]],
) -> None:
    reader, parts = networks("per_group")
    kept = reader.model.net.output.weight.detach().clone()
    with torch.no_grad():
        reader.model.net.output.weight[0, -8:] = 0  # the laboratory's eight units come last
    found = modality_shapley(reader, everybody(parts), parts.train, np.random.default_rng(0), scale="probability")
    with torch.no_grad():
        reader.model.net.output.weight.copy_(kept)
    assert np.abs(found.contributions[2]).max() < 1e-6
    assert np.median(np.abs(found.contributions[1])) > 1e-3


def test_worth_is_a_mean_over_the_background_on_the_scale_that_was_asked_for(
    networks: Callable[[str], tuple[Reader, Split]],
) -> None:
    """With nothing of a whole person left, the worth is the background's mean logit, or its mean probability."""
    reader, parts = networks("joint")
    standing_in = background_people(reader.study, parts.train, 100, np.random.default_rng(0))
    logits = predict(reader.model.net, reader, standing_in)
    for scale, expected in (("logit", logits.mean()), ("probability", expit(logits).mean())):
        found = explained(networks, "joint", scale=scale)
        whole = found.present.all(axis=0)
        np.testing.assert_allclose(found.start[whole], expected, atol=1e-4)


# ---- features --------------------------------------------------------------------------------------------------------


def exact(reader: Reader, parts: Split) -> ModalityShapley:
    """All 64 coalitions of six features by our own code, as an independent reference for shap."""
    people = everybody(parts)
    standing_in = background_people(reader.study, parts.train, 100, np.random.default_rng(0))
    columns = feature_columns(reader.study)
    features = [name for name in columns if name != IMAGE]
    composites = Composites.of(reader, [people, standing_in], columns)
    own, others = np.arange(len(people)), np.arange(len(people), len(composites))
    worth = np.empty((2 ** len(features), len(people)))
    for coalition in range(len(worth)):
        whose = {IMAGE: np.repeat(own, len(others))}
        for j, name in enumerate(features):
            taken = composites.has(name)[own] & (not coalition >> j & 1)
            whose[name] = np.where(taken[:, None], others, own[:, None]).ravel()
        worth[coalition] = composites.logits(whose).reshape(len(own), -1).mean(axis=1)
    present = np.stack([composites.has(name)[own] for name in features])
    return ModalityShapley(tuple(features), worth, present, people.ids, people.labels == 1, "logit")


@pytest.fixture(scope="module", params=[True, False], ids=["all coalitions", "drawn orders"])
def shap_beside_reference(
    request: pytest.FixtureRequest, networks: Callable[[str], tuple[Reader, Split]]
) -> tuple[FeatureShap, ModalityShapley, float]:
    """What shap says, what is exact, and how far apart they may be: Monte Carlo error in contributions up to .3."""
    reader, parts = networks("joint")
    with pytest.MonkeyPatch.context() as patch:
        if not request.param:
            patch.setattr(explain, "EXACT_FEATURES", 0)
        found = feature_shap(reader, everybody(parts), parts.train, np.random.default_rng(0), orders=20)
    return found, exact(reader, parts), 1e-5 if request.param else 0.03


@pytest.mark.slow  # shap is imported, and compiles itself
def test_shap_is_the_exact_shapley_value_of_each_feature(
    shap_beside_reference: tuple[FeatureShap, ModalityShapley, float],
) -> None:
    found, reference, error = shap_beside_reference
    assert found.features == reference.modalities
    np.testing.assert_allclose(found.contributions, shapley(reference.worth), atol=error)
    assert np.abs(found.contributions).max() > 0.1


@pytest.mark.slow
def test_shap_adds_up_to_the_models_logit(shap_beside_reference: tuple[FeatureShap, ModalityShapley]) -> None:
    found, reference, _ = shap_beside_reference
    np.testing.assert_allclose(found.start, reference.start, atol=1e-5)
    np.testing.assert_allclose(found.start + found.contributions.sum(axis=0), found.scores, atol=1e-5)


@pytest.mark.slow
def test_a_missing_value_contributes_nothing(
    shap_beside_reference: tuple[FeatureShap, ModalityShapley, float],
) -> None:
    found, reference, _ = shap_beside_reference
    assert 10 < (~reference.present).sum() < 30
    assert (found.contributions[:, 10] == 0).all()
    assert (found.contributions[~reference.present] == 0).all()


@pytest.mark.slow
def test_shap_leaves_numpys_global_generator_as_it_was(
    networks: Callable[[str], tuple[Reader, Split]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explain, "EXACT_FEATURES", 0)
    reader, parts = networks("tables")
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    one, other = (feature_shap(reader, parts.test, parts.train, np.random.default_rng(1)) for _ in range(2))
    assert np.random.random() == expected  # noqa: NPY002
    np.testing.assert_array_equal(one.contributions, other.contributions)


@pytest.mark.slow
def test_a_model_of_images_has_no_features(networks: Callable[[str], tuple[Reader, Split]]) -> None:
    reader, parts = networks("image")
    with pytest.raises(UndefinedMetric, match="grad_cam"):
        feature_shap(reader, parts.test, parts.train, np.random.default_rng(0))
