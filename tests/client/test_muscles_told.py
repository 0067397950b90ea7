"""After the last round a hospital tells of drawn muscles what its policy lets out, of enough people, and no more."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import simulation.harness
from client.policy import Policy
from client.tasks import handle
from client.workspace import Site
from sarco_models.accounting import plan
from sarco_models.errors import ConfigError
from sarco_models.fusion import fixed_tensors
from sarco_models.parameters import Parameters, trained_tensors
from sarco_models.privacy import check_private_model
from sarco_models.wire import Describe, Described, Evaluate, Evaluated, Ready, Setup
from simulation.harness import Arm, SiteFolder, open_sites, prepare
from tests.muscle_sites import muscle_site, muscle_study

PRIVATE: dict[str, Any] = {
    "privacy": {"epsilon": 8.0, "delta": 1e-3, "statistics": "private"},
    "training": {"local_steps": 1, "optimizer": "sgd", "learning_rate": 0.05},
}
MakeSite = Callable[..., Site]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hospital of 24 people: 12 train, 6 validate, 6 test."""
    return muscle_site(tmp_path_factory.mktemp("told") / "alpha", 24)


@pytest.fixture
def make(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSite:
    """The hospital, in a study with changes; nothing of another test but the cache of its images."""
    monkeypatch.setattr(simulation.harness, "says_synthetic", lambda folder: True)

    def site(**changes: Any) -> Site:
        parts, federation = {"train": 0.5, "validation": 0.25}, {"rounds": 1, "min_participants": 2}
        study = muscle_study(**{"split": parts, "federation": federation, **changes})
        places = (SiteFolder("alpha", data, "none"),)
        arm = Arm("federated", study, places, None, data.parent / "cache", tmp_path / "run")
        prepare(arm)
        (found,) = open_sites(arm)
        return found

    return site


def allowing(site: Site, **changes: Any) -> Site:
    site.policy = Policy.model_validate({**site.policy.model_dump(), **changes})
    return site


def evaluated(site: Site) -> Evaluated:
    """What the hospital answers to Evaluate, of the model that it has."""
    described = handle(site, Describe(site.study.digest))
    assert isinstance(described, Described)
    setup = Setup(site.study.digest, Parameters.pack(fixed_tensors(site.model)), described.moments)
    assert isinstance(handle(site, setup), Ready)
    model = Parameters.pack(trained_tensors(site.model.net))
    reply = handle(site, Evaluate(site.study.digest, setup.digest, 1, 0.5, model))
    assert isinstance(reply, Evaluated), reply
    return reply


def kinds(reply: Evaluated) -> set[str]:
    """Measures of single muscles that it tells."""
    return {name.split(".")[1] for name in reply.metrics if "." in name}


def test_everything_that_is_allowed_is_told(make: MakeSite) -> None:
    reply = evaluated(make())
    assert kinds(reply) == {"dice", "log_area_cm2", "log_aspect", "log_convexity"}
    assert {"loss", "dice"} <= set(reply.metrics)
    assert reply.metrics["biceps.dice.n"] == 6
    assert reply.metrics["biceps.log_area_cm2.n"] <= 12
    assert reply.histogram is not None
    assert int(reply.histogram.positives.sum() + reply.histogram.negatives.sum()) == 6


@pytest.mark.parametrize(
    ("policy", "told", "counts"),
    [
        ({"metrics": ()}, {"log_area_cm2", "log_aspect", "log_convexity"}, True),
        ({"statistics": ("histogram",)}, {"dice"}, True),
        ({"statistics": ("sums",)}, {"dice", "log_area_cm2", "log_aspect", "log_convexity"}, False),
        ({"min_cell": 7}, {"log_area_cm2", "log_aspect", "log_convexity"}, False),
        ({"min_cell": 13}, set(), False),
    ],
)
def test_what_is_not_allowed_or_of_too_few_stays(
    make: MakeSite, policy: dict[str, Any], told: set[str], counts: bool
) -> None:
    reply = evaluated(allowing(make(), **policy))
    assert kinds(reply) == told
    assert (reply.histogram is not None) is counts


@pytest.mark.parametrize(("statistics", "leave"), [("withheld", False), ("private", False), ("exact", True)])
def test_a_private_study_keeps_exact_sums_unless_it_says_otherwise(
    make: MakeSite, statistics: str, leave: bool
) -> None:
    site = make(**{**PRIVATE, "privacy": {**PRIVATE["privacy"], "statistics": statistics}})
    reply = evaluated(site)
    assert ("log_area_cm2" in kinds(reply)) is leave
    assert (reply.histogram is not None) is leave
    assert not site.ledger.charges.sets, "nobody has a label that a count could tell: all of epsilon is for training"
    assert plan(site.study).statistics is None


def test_the_same_question_gets_the_same_answer(make: MakeSite) -> None:
    site = make(**PRIVATE)
    assert evaluated(site).metrics == evaluated(site).metrics


def test_a_batch_norm_in_the_decoder_cannot_be_private(make: MakeSite) -> None:
    model = make().model
    check_private_model(model)
    decoder = next(module for module in model.net.modules() if isinstance(module, nn.Sequential))
    decoder.append(nn.BatchNorm2d(8))
    with pytest.raises(ConfigError, match="normalises by batches"):
        check_private_model(model)
