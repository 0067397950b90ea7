"""Finished arms explained: what adds up, what a useless kind of data gets, what is kept, and what is never written."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit

from sarco_models.cohort import everyone
from sarco_models.errors import ConfigError, RunError
from sarco_models.parameters import Parameters, trained_tensors
from server.evaluation import released_reader
from server.runs import Run
from simulation.explained import Explained, is_synthetic, views
from simulation.explanations import FEATURE_PEOPLE, Members, explain_arm, explanation, members, pooled_explanation
from simulation.harness import Arm, SiteFolder, read_scores, run_arm
from simulation.heat_maps import explain_images
from tests.sites import image_site, image_study, opened, tables_site, tables_study

pytestmark = pytest.mark.slow  # arms are trained, and shap compiles itself


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sites and a central cohort with images; nothing says that their people are synthetic."""
    folder = tmp_path_factory.mktemp("hospitals")
    for name, people, seed in (("alpha", 24, 1), ("beta", 30, 2), ("central", 15, 3)):
        image_site(folder / name, people, seed, without=2)
    return folder


@pytest.fixture(scope="module")
def pooled(hospitals: Path) -> Arm:
    """All three kinds of data, each with a branch of its own."""
    study = image_study(
        image={"size": 64},
        model={"trainable": "last_stage", "weights": "phantom", "tabular": "per_group"},
        training={"learning_rate": 0.005},
    )
    sites = tuple(SiteFolder(name, hospitals / name, "invented2026") for name in ("alpha", "beta"))
    arm = Arm("pooled", study, sites, hospitals / "central", hospitals / "cache", hospitals / "runs" / "pooled")
    run_arm(arm)
    return arm


@pytest.fixture
def copied(pooled: Arm, tmp_path: Path) -> Arm:
    """The finished arm in a directory of its own, explained by nobody yet."""
    unwanted = shutil.ignore_patterns("explanation*", "heat_maps*")
    shutil.copytree(pooled.folder, tmp_path / "run", ignore=unwanted)
    return replace(pooled, folder=tmp_path / "run")


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> list[Arm]:
    """A cross-validation of tables at one site: three folds, two draws of each."""
    root = tmp_path_factory.mktemp("folds")
    tables_site(root / "alpha", 40)
    tables_site(root / "beta", 12, 2)
    sites = tuple(SiteFolder(name, root / name, "invented2026") for name in ("alpha", "beta"))
    arms = []
    for fold in range(3):
        for draw in range(2):
            study = tables_study(
                split={"folds": 3, "fold": fold},
                training={"draws": 2, "draw": draw, "learning_rate": 0.02, "local_epochs": 4},
            )
            arm = Arm("cv:alpha", study, sites, None, root / "cache", root / "runs" / f"{fold}-{draw}", external=True)
            run_arm(arm)
            arms.append(arm)
    return arms


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def without_laboratory(arm: Arm) -> None:
    """The released model with an output that no longer listens to the laboratory's eight units, which come last."""
    run = Run.open(arm.folder)
    net = released_reader(run).model.net
    with torch.no_grad():
        net.output.weight[0, -8:] = 0
    Parameters.pack(trained_tensors(net)).save(arm.folder / "model.safetensors")


def central_probabilities(arm: Arm) -> np.ndarray:
    return next(s.people.scores for s in read_scores(arm) if s.site == "central")


# ---- what adds up ----------------------------------------------------------------------------------------------------


def test_contributions_add_up_to_the_logit_that_was_scored(pooled: Arm) -> None:
    found = explain_arm(pooled)
    assert (found["cohort"], found["n"], found["n_positive"]) == ("central", 15, 5)
    with np.load(pooled.folder / "explanation.npz") as kept:
        total = kept["worth"][0] + kept["contributions"].sum(axis=0)
        np.testing.assert_allclose(total, kept["worth"][-1], atol=1e-9)
        np.testing.assert_allclose(expit(total), central_probabilities(pooled), atol=1e-6)


def test_shares_of_every_group_sum_to_one(pooled: Arm) -> None:
    found = pooled_explanation([pooled], rng())
    assert {"sarcopenia", "non_sarcopenia", "all"} <= set(found["shares"])
    for share in found["shares"].values():
        assert set(share) == {"image", "clinical", "lab"}
        assert sum(s["value"] for s in share.values()) == pytest.approx(1)
        assert all(s["low"] <= s["value"] <= s["high"] for s in share.values())
    assert set(found["features"]) == set(found["features"] and explain_arm(pooled)["features"])
    assert found["n_features_explained"] == 15
    assert found["drop_one_auc"]["image"]["difference"]["value"] == pytest.approx(
        found["full_auc"]["value"] - found["drop_one_auc"]["image"]["value"]
    )
    json.dumps(found, allow_nan=False)


def test_a_kind_of_data_that_the_output_ignores_has_no_share_and_no_auc_is_lost_without_it(copied: Arm) -> None:
    without_laboratory(copied)
    found = pooled_explanation([copied], rng())
    for share in found["shares"].values():
        assert share["lab"]["value"] == pytest.approx(0, abs=1e-7)
    assert found["drop_one_auc"]["lab"]["value"] == found["full_auc"]["value"]
    assert found["drop_one_auc"]["lab"]["p"] == 1
    assert all(found["features"][name]["value"] < 1e-6 for name in ("albumin_g_per_l", "hba1c_percent"))
    assert found["features"]["age_years"]["value"] > 1e-4


# ---- whom it is of ---------------------------------------------------------------------------------------------------


def test_an_arm_of_one_hospital_is_explained_on_its_own_held_out_people(pooled: Arm, folds: list[Arm]) -> None:
    assert Explained.of(pooled).place == "central"
    assert Explained.of(pooled, "beta").people.ids == pooled.split_of("beta").test.ids
    fold = Explained.of(folds[0])
    assert (fold.place, fold.people.ids) == ("alpha", folds[0].split_of("alpha").test.ids)
    assert len(Explained.of(folds[0], "beta").people) == 12
    with pytest.raises(ConfigError, match="not scored on 'gamma': name one of alpha, beta"):
        Explained.of(folds[0], "gamma")


def test_folds_are_joined_and_draws_of_one_fold_are_averaged(folds: list[Arm]) -> None:
    found = pooled_explanation(folds, rng())
    assert (found["n"], found["folds"], found["draws"], found["cohort"]) == (40, 3, 2, "alpha")
    assert 40 <= found["n_features_explained"] <= FEATURE_PEOPLE + 2
    each = [members(arm) for arm in folds[:2]]
    one = pooled_explanation(folds[:2], rng())
    mean = np.abs((contributions(each[0]) + contributions(each[1])) / 2).mean(axis=1)
    assert not np.allclose(contributions(each[0]), contributions(each[1]))
    expected = mean / mean.sum()
    assert [s["value"] for s in one["shares"]["all"].values()] == pytest.approx(expected.tolist())


def contributions(found: Members) -> np.ndarray:
    """Of two players, by hand."""
    nothing, first, second, both = found.worth
    return np.stack([(first - nothing + both - second) / 2, (second - nothing + both - first) / 2])


def test_members_of_several_seeds_or_arms_are_refused(folds: list[Arm]) -> None:
    """Their folds hold other people: somebody would count twice."""
    other_seed = replace(folds[2], study=tables_study(split={"folds": 3, "fold": 1}, training={"seed": 2}))
    for other in (other_seed, replace(folds[2], name="local:alpha")):
        with pytest.raises(RunError, match="2 members of 2 arms and seeds"):
            pooled_explanation([folds[0], other], rng())


# ---- what is kept ----------------------------------------------------------------------------------------------------


def test_a_second_call_reads_what_is_there_and_equals_the_first(copied: Arm, monkeypatch: pytest.MonkeyPatch) -> None:
    first, pictures = pooled_explanation([copied], rng()), explain_images(copied, copied.folder / "pictures")
    files = [copied.folder / "explanation.npz", copied.folder / "heat_maps.json"]
    before = [path.read_bytes() for path in files]
    with monkeypatch.context() as patch:
        for name in ("modality_shapley", "feature_shap"):
            patch.setattr(f"simulation.explanations.{name}", never)
        patch.setattr("simulation.heat_maps.put_to_the_test", never)
        assert pooled_explanation([copied], rng()) == first
        assert explain_images(copied, copied.folder / "pictures") == pictures
    files[0].unlink()
    (copied.folder / "explanation.npz.1.partial").write_bytes(b"killed while it was written")
    assert pooled_explanation([copied], rng()) == first
    assert [path.read_bytes() for path in files] == before


def never(*_: object, **__: object) -> None:
    raise AssertionError("what is kept was computed again")


def test_another_model_in_the_same_directory_is_explained_anew(copied: Arm) -> None:
    before = members(copied).worth
    without_laboratory(copied)
    assert not np.allclose(members(copied).worth, before)


def test_a_run_without_a_model_is_refused(copied: Arm) -> None:
    (copied.folder / "model.safetensors").unlink()
    with pytest.raises(RunError, match="no model yet"):
        explain_arm(copied)


# ---- what is never written -------------------------------------------------------------------------------------------


def test_nobody_is_named_anywhere(pooled: Arm, tmp_path: Path) -> None:
    found = explanation([pooled], tmp_path, rng())
    written = [json.dumps(found), (pooled.folder / "heat_maps.json").read_text()]
    with np.load(pooled.folder / "explanation.npz") as kept:
        written += [str(kept[name].tolist()) for name in kept.files]
    assert Explained.of(pooled).people.ids[0] == "P000"
    assert not [text for text in written if "P00" in text or "P01" in text]


def test_pictures_are_of_synthetic_people_only(
    pooled: Arm, copied: Arm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = explain_images(copied, tmp_path / "real")
    assert found["picture"] is None
    assert not (tmp_path / "real").exists()
    monkeypatch.setattr("simulation.heat_maps.is_synthetic", lambda _arm: True)
    found = explain_images(copied, tmp_path / "invented", count=4)
    assert found["picture"] == "gradcam_pooled-1.png"
    assert (tmp_path / "invented" / "gradcam_pooled-1.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(("cohorts", "synthetic"), [(("alpha", "beta", "central"), True), (("alpha", "beta"), False)])
def test_one_cohort_of_real_people_makes_the_run_real(
    pooled: Arm, tmp_path: Path, cohorts: tuple[str, ...], synthetic: bool
) -> None:
    for name in ("alpha", "beta", "central"):
        (tmp_path / name).mkdir()
    for name in cohorts:
        (tmp_path / name / "manifest.json").write_text('{"synthetic": true}')
    sites = tuple(replace(site, data=tmp_path / site.name) for site in pooled.sites)
    assert is_synthetic(replace(pooled, sites=sites, central=tmp_path / "central")) == synthetic


# ---- heat maps -------------------------------------------------------------------------------------------------------


def test_each_layer_has_every_check_with_an_interval_and_a_verdict(pooled: Arm, tmp_path: Path) -> None:
    found = explain_images(pooled, tmp_path)
    assert (found["cohort"], found["n"]) == ("central", 13)  # two have no image
    assert list(found["layers"]) == ["32", "16", "8"]
    for layer in found["layers"].values():
        assert layer["cell_mm"] == pytest.approx(12.0 * int(layer["cell_mm"] * 64 / 12 + 0.5) / 64)
        assert len(layer["checks"]) == 8
        assert len(layer["wrecks"]) <= 5
        assert layer["failed"] == [name for name, check in layer["checks"].items() if not check["passed"]]
        assert ("fail" in layer["verdict"]) == bool(layer["failed"])


def test_regions_are_where_the_pixels_are(pooled: Arm, hospitals: Path) -> None:
    explained = Explained.of(pooled)
    seen = views(hospitals / "central", explained.people, pooled.study, 99)
    assert seen.muscle is not None
    assert seen.fascia is not None
    assert not seen.pixels[~seen.visible].any()
    assert (seen.muscle & ~seen.visible).sum() == 0
    assert (seen.fascia & seen.muscle).any()
    assert (seen.fascia & ~seen.muscle).any()
    inside, beside = seen.pixels[seen.muscle].mean(), seen.pixels[seen.visible & ~seen.muscle].mean()
    assert inside > beside + 20  # the muscle of these phantoms is brighter by 60
    few = views(hospitals / "central", explained.people, pooled.study, 4)
    np.testing.assert_array_equal(few.pixels, seen.pixels[:4])
    assert len({tuple(image.ravel()[:2000].tolist()) for image in seen.pixels}) == 13


def test_a_study_without_masks_has_views_without_muscle(hospitals: Path) -> None:
    study = image_study(image={"size": 64, "roi": "none"})
    seen = views(hospitals / "central", everyone(opened(hospitals / "central", study)), study, 5)
    assert len(seen) == 5
    assert seen.muscle is None
    assert seen.fascia is None
    assert not seen.pixels[~seen.visible].any()
    assert 0.5 < seen.visible.mean() <= 1


def test_images_are_those_of_their_rows_where_a_file_cannot_be_read(hospitals: Path, tmp_path: Path) -> None:
    """A person whose files are broken shifts nobody's mask: regions still fit the pixels of everybody else."""
    shutil.copytree(hospitals / "central", tmp_path / "central")
    for path in (tmp_path / "central" / "images").glob("003_*"):
        path.write_bytes(b"broken")
    study = image_study(image={"size": 64}, model={"modalities": ["image"]})
    seen = views(tmp_path / "central", everyone(opened(tmp_path / "central", study)), study, 99)
    assert len(seen) == 12
    assert seen.muscle is not None
    for image, muscle, visible in zip(seen.pixels, seen.muscle, seen.visible, strict=True):
        assert not image[~visible].any()
        assert image[muscle].mean() > image[visible & ~muscle].mean() + 20
