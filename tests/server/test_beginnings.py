"""A run may begin with the released model of another: the same network, scaling and people, and nothing else of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sarco_models.config import StudyConfig
from sarco_models.errors import QuorumLost, RunError
from sarco_models.parameters import Parameters
from server.beginnings import check_continues
from server.runs import Run
from simulation.harness import Arm, SiteFolder, open_sites, prepare, run_arm, train_in_process
from tests.sites import image_study, tables_site, tables_study

Make = Callable[..., Arm]
STILL = {"learning_rate": 1e-12, "weight_decay": 0.0}


@pytest.fixture
def arm(tmp_path: Path) -> Make:
    """An arm on two hospitals of 24 and 40 people."""
    data = tmp_path / "data"
    for name, people, seed in (("alpha", 24, 1), ("beta", 40, 2), ("central", 9, 3)):
        tables_site(data / name, people, seed)

    def make(name: str, folder: str = "", begin: Path | None = None, **changes: Any) -> Arm:
        sites = tuple(SiteFolder(n, data / n, "invented2026") for n in ("alpha", "beta"))
        place = tmp_path / (folder or name.replace(":", "_"))
        return Arm(name, tables_study(**changes), sites, data / "central", tmp_path / "cache", place, begin)

    return make


@pytest.fixture
def federated(arm: Make) -> Arm:
    trained = arm("federated")
    run_arm(trained)
    return trained


def final(arm: Arm) -> np.ndarray:
    return Parameters.load(arm.folder / "model.safetensors", Run.open(arm.folder).manifest).vector


def test_a_tuned_model_that_learned_nothing_is_the_released_one(arm: Make, federated: Arm) -> None:
    tuned = arm("tuned:beta", begin=federated.folder, training=STILL, federation={"rounds": 1})
    run_arm(tuned)
    np.testing.assert_allclose(final(tuned), final(federated), rtol=0, atol=1e-9)
    assert np.abs(final(federated) - Run.open(federated.folder).parameters_after(0).vector).max() > 1e-4
    begun, run = Run.open(federated.folder), Run.open(tuned.folder)
    assert run.begun == begun.identity
    assert run.records()[0]["central"] == begun.records()[-1]["central"]


def test_the_scaling_is_that_of_all_hospitals_whoever_takes_part(arm: Make, federated: Arm) -> None:
    tuned, local = arm("tuned:beta", begin=federated.folder), arm("local:beta")
    for each in (tuned, local):
        run_arm(each)
    there, here, alone = (Run.open(a.folder).released or {} for a in (federated, tuned, local))
    assert here["scaling"] == there["scaling"]
    assert here["scaling"] != alone["scaling"]
    assert set(here["sites"]) == {"beta"}
    site = open_sites(tuned)[0]
    reader = site.reader(Run.open(tuned.folder).records()[0]["setup"])
    assert reader is not None
    assert reader.scaling.fill.tolist() == there["scaling"]["fill"]


def test_a_tuned_run_learns(arm: Make, federated: Arm) -> None:
    tuned = arm("tuned:beta", begin=federated.folder, training={"learning_rate": 0.01})
    run_arm(tuned)
    assert np.abs(final(tuned) - final(federated)).max() > 1e-3


def test_what_an_adaptive_strategy_remembered_is_not_taken_over(arm: Make) -> None:
    changes = {"federation": {"strategy": "fedyogi"}}
    first = arm("federated", **changes)
    run_arm(first)
    assert Run.open(first.folder).state_after(2)
    tuned = arm("tuned:alpha", begin=first.folder, **changes)
    run = prepare(tuned)
    assert run.state_after(0) == {}
    train_in_process(run, open_sites(tuned))
    m = run.state_after(1)["m"]
    step = run.parameters_after(1).vector - final(first)
    assert np.array_equal(np.sign(m)[step != 0], np.sign(step)[step != 0])  # the mean of this round's changes alone


def killed_after_round_one(arm: Arm) -> None:
    write = Run.record

    def dies(run: Run, round_: int, *rest: Any) -> None:
        write(run, round_, *rest)
        if round_ == 1:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "record", dies)
        with pytest.raises(KeyboardInterrupt):
            run_arm(arm)


def test_a_tuned_run_that_was_killed_goes_on_with_the_same_people_only(arm: Make, federated: Arm) -> None:
    whole, broken = (arm("tuned:beta", folder=name, begin=federated.folder) for name in ("whole", "broken"))
    run_arm(whole)
    killed_after_round_one(broken)
    run_arm(broken)
    assert np.array_equal(final(whole), final(broken))
    other = arm("tuned:beta", folder="other", begin=federated.folder)
    killed_after_round_one(other)
    table = other.sites[1].data / "participants.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-4]))
    with pytest.raises(QuorumLost, match="comes back with other people or tables than it began with"):
        run_arm(other)


def test_a_run_without_a_released_model_is_no_beginning(arm: Make) -> None:
    started = prepare(arm("federated"))
    with pytest.raises(RunError, match=r"begin = .*federated: has released no model yet: complete that run first"):
        prepare(arm("tuned:alpha", begin=started.folder))


def test_another_network_is_no_beginning(arm: Make, federated: Arm) -> None:
    with pytest.raises(RunError, match=r"begin = .*: model\.hidden_units = 9; there it is 8: write what"):
        prepare(arm("tuned:alpha", begin=federated.folder, model={"hidden_units": 9}))


def test_a_run_directory_keeps_its_beginning(arm: Make, federated: Arm) -> None:
    prepare(arm("tuned:alpha", begin=federated.folder))
    prepare(arm("tuned:alpha", begin=federated.folder))
    with pytest.raises(RunError, match=r"began with the released model .*, not with its own start: name"):
        prepare(arm("tuned:alpha"))


def test_a_run_whose_sums_were_not_kept_is_no_beginning(arm: Make, federated: Arm) -> None:
    (federated.folder / "agreed.npz").unlink()
    with pytest.raises(RunError, match=r"agreed\.npz: the sums that the sites agreed on cannot be read"):
        prepare(arm("tuned:alpha", begin=federated.folder))


CONTINUED: dict[str, tuple[dict[str, Any], str]] = {
    "features": ({"features": [{"name": "age_years", "group": "clinical"}]}, "features: not the same list"),
    "scaling": ({"tabular": {"scaling": "minmax"}}, "tabular.scaling = 'minmax'; there it is 'standard'"),
    "pixels": ({"image": {"size": 64}}, "image.size = 64; there it is 32"),
    "grey levels": ({"intensity": {"standardize": "device"}}, "intensity.standardize = 'device'"),
    "trained layers": ({"model": {"trainable": "head"}}, "model.trainable = 'head'; there it is 'all'"),
    "people": ({"split": {"train": 0.5}}, r"split.train = 0.5; there it is 0.6"),
    "fold": ({"split": {"folds": 5, "fold": 1}}, "split.folds = 5; there it is 0"),
    "seed": ({"training": {"seed": 2}}, "training.seed = 2; there it is 1"),
    "norms": (
        {"image": {"size": 64}, "model": {"backbone": "efficientnet_b0", "norm": "local"}},
        "never left them.*begin with a run of",
    ),
}


def two_modalities(**changes: Any) -> StudyConfig:
    return image_study(**{"model": {"modalities": ["image", "clinical"], **changes.pop("model", {})}, **changes})


@pytest.mark.parametrize("what", CONTINUED)
def test_what_the_released_model_rests_on_must_be_the_same(what: str) -> None:
    changes, words = CONTINUED[what]
    with pytest.raises(ValueError, match=words):
        check_continues(two_modalities(**json.loads(json.dumps(changes))), two_modalities())


def test_how_it_is_trained_further_is_free() -> None:
    further = {
        "training": {"learning_rate": 1e-5, "local_epochs": 3},
        "federation": {"strategy": "fedadam", "rounds": 7},
        "split": {"use": 0.5},
        "augmentation": {"rotate_degrees": 0.0},
        "model": {"dropout": 0.1, "weights": "phantom"},
    }
    check_continues(two_modalities(**further), two_modalities())


def test_where_every_hospital_has_norms_of_its_own_there_is_no_beginning() -> None:
    local = two_modalities(image={"size": 64}, model={"backbone": "efficientnet_b0", "norm": "local"})
    with pytest.raises(ValueError, match=r'model\.norm = "local": the norms of its hospitals never left them'):
        check_continues(local, local)
