"""What is absent from site.toml is refused, request by request; a refusal changes nothing but the audit log."""

import json
import logging
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from client.ledger import BudgetConfig
from client.policy import Policy, Refusal, check, check_people, study_violations
from client.workspace import Site, SiteConfig, open_site
from sarco_models.config import StudyConfig, load_config
from sarco_models.parameters import Manifest, Parameters
from sarco_models.wire import Code, Described, Evaluated, Masking, Ready, Refused, Train, Trained
from simulation.harness import permitting
from tests.client.hospitals import PRIVACY, SECURE, answer, hospital, policy_without, requests
from tests.sites import tables_study

TASKS = ("Describe", "Setup", "Train", "Evaluate", "Assess", "Probe")
PLAIN = {"federation": {"min_sites": 3}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hospital")


@pytest.fixture(scope="module")
def site(folder: Path) -> Site:
    return hospital(folder)


def refused(study: StudyConfig, policy: Policy, task: str, site: Site, **changes: Any) -> Refusal:
    """The refusal of a request by the pure decision."""
    request = requests(site, study)[task]
    with pytest.raises(Refusal) as found:
        check(replace(request, **changes), policy, study)
    return found.value


def test_an_empty_policy_refuses_every_request(site: Site) -> None:
    for request in requests(site).values():
        with pytest.raises(Refusal, match="study_not_approved"):
            check(request, Policy(), site.study)
        with pytest.raises(Refusal, match=r"task_not_allowed: tasks: .* is not among none"):
            check(request, Policy(approved_studies=(site.study.digest,)), site.study)


def test_what_a_simulated_hospital_permits_is_all_that_its_study_needs(site: Site) -> None:
    for changes in (PLAIN, PRIVACY, SECURE, {**PRIVACY, **SECURE}):
        study = tables_study(**changes)
        for task, request in requests(site, study).items():
            if task in TASKS or study.federation.secure_aggregation:
                check(request, permitting(study), study)


ABSENT: dict[str, tuple[dict[str, Any], str, Code]] = {
    "approved_studies": (PLAIN, "Describe", Code.STUDY_NOT_APPROVED),
    "tasks": (PLAIN, "Train", Code.TASK_NOT_ALLOWED),
    "unprotected_training": (PLAIN, "Train", Code.NOT_PRIVATE_ENOUGH),
    "max_epsilon": (PRIVACY, "Train", Code.NOT_PRIVATE_ENOUGH),
    "min_sites": ({"federation": {"min_sites": 2}}, "Describe", Code.TOO_FEW_SITES),
    "plain_updates": (PLAIN, "Train", Code.NOT_MASKED),
    "parameters": (PLAIN, "Train", Code.TASK_NOT_ALLOWED),
    "max_parameter_bytes": (PLAIN, "Train", Code.UPDATE_TOO_LARGE),
}


@pytest.mark.parametrize("key", ABSENT)
def test_an_absent_permission_is_refused_and_the_reason_names_its_key(site: Site, key: str) -> None:
    changes, task, code = ABSENT[key]
    study = tables_study(**changes)
    policy = permitting(study)
    absent = Policy.model_validate({k: v for k, v in policy.model_dump().items() if k != key})
    check(requests(site, study)[task], policy, study)
    refusal = refused(study, absent, task, site)
    assert refusal.code == code
    assert key in str(refusal)


@pytest.mark.parametrize(("statistic", "task"), [("assessment", "Assess"), ("leakage", "Probe")])
def test_a_statistic_that_is_not_listed_is_refused(site: Site, statistic: str, task: str) -> None:
    kept = tuple(s for s in site.policy.statistics if s != statistic)
    refusal = refused(site.study, site.policy.model_copy(update={"statistics": kept}), task, site)
    assert refusal.code == Code.TASK_NOT_ALLOWED
    assert f'statistics: "{statistic}"' in str(refusal)


def fresh(tmp_path: Path, key: str, changes: dict[str, Any] | None = None) -> Site:
    """A hospital of its own that lacks a key."""
    study = tables_study(**(changes or PLAIN))
    return hospital(tmp_path / "fresh", study, **{key: None})


def everything(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("key", [key for key in ABSENT if key != "max_epsilon"])
def test_a_refused_request_leaves_model_ledger_and_disk_as_they_were(
    tmp_path: Path, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    changes, task, code = ABSENT[key]
    opened = fresh(tmp_path, key, changes)
    request = requests(opened)[task]
    before, disk = Parameters.pack(opened.tensors).digest, everything(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert answer(opened, request) == Refused("alpha", code)
    assert key in caplog.text
    assert Parameters.pack(opened.tensors).digest == before
    after = everything(tmp_path)
    log = after.pop("fresh/state/audit.jsonl").decode()
    assert after == disk
    assert [json.loads(line)["kind"] for line in log.splitlines()] == ["request", "decision", "reply"]
    assert json.loads(log.splitlines()[1])["code"] == code


def test_a_key_that_is_absent_from_site_toml_is_absent_from_the_policy(tmp_path: Path) -> None:
    for key in Policy.model_fields:
        opened = fresh(tmp_path / key, key)
        assert opened.policy == policy_without(hospital(tmp_path / f"{key}-whole"), key)


# ---- parts that are left out -----------------------------------------------------------------------------------------


def test_sums_and_histograms_that_are_not_listed_stay_and_the_rest_is_answered(tmp_path: Path) -> None:
    opened = hospital(tmp_path, statistics=["assessment"], metrics=["auc"])
    asked = requests(opened)
    described = answer(opened, asked["Describe"])
    assert isinstance(described, Described)
    assert not described.moments.count.any()
    assert not described.moments.total.any()
    assert not described.moments.squares.any()
    assert described.training == len(opened.split.train)
    assert isinstance(answer(opened, asked["Setup"]), Ready)
    evaluated = answer(opened, asked["Evaluate"])
    assert isinstance(evaluated, Evaluated)
    assert evaluated.histogram is None
    assert list(evaluated.metrics) == ["auc"]


# ---- the study -------------------------------------------------------------------------------------------------------


def test_a_study_is_held_against_the_hospitals_limits_at_their_borders(site: Site) -> None:
    study = tables_study(**{**PRIVACY, **SECURE})
    policy = permitting(study).model_copy(update={"min_sites": 3, "max_epsilon": 8.0})
    assert study_violations(policy, study) == []
    for change, key in (({"min_sites": 4}, "min_sites"), ({"max_epsilon": 7.999}, "max_epsilon")):
        (violation,) = study_violations(policy.model_copy(update=change), study)
        assert violation[1] == key


def test_a_private_study_needs_no_leave_for_unprotected_training_and_the_other_way_round() -> None:
    private, plain = tables_study(**PRIVACY), tables_study(**PLAIN)
    assert not permitting(private).unprotected_training
    assert permitting(plain).max_epsilon == 0
    assert {key for _, key, _ in study_violations(permitting(plain), private)} == {"max_epsilon"}
    assert {key for _, key, _ in study_violations(permitting(private), plain)} == {"unprotected_training"}


def test_a_request_of_another_approved_study_is_not_answered_by_this_ones_code(site: Site) -> None:
    other = tables_study(federation={"min_sites": 3, "rounds": 7})
    policy = site.policy.model_copy(update={"approved_studies": (site.study.digest, other.digest)})
    with pytest.raises(Refusal, match=r"study_not_approved: the request is of study '\w{12}', site.toml's is"):
        check(requests(site, other)["Describe"], policy, site.study)


def test_an_approval_on_record_stands_in_for_one_by_hand(site: Site) -> None:
    policy = site.policy.model_copy(update={"approved_studies": ()})
    check(requests(site)["Describe"], policy, site.study, no_approval="")
    with pytest.raises(Refusal, match=r"withdrawn by her on 2026-01-01; nor is it in approved_studies"):
        check(requests(site)["Describe"], policy, site.study, no_approval="withdrawn by her on 2026-01-01")


# ---- secure aggregation ----------------------------------------------------------------------------------------------


def masking(*names: str) -> Masking:
    return Masking(1, 120, json.dumps([[name, "00", "00"] for name in names]))


@pytest.mark.parametrize(
    ("masks", "code"),
    [
        (None, Code.NOT_MASKED),
        (masking("alpha", "beta"), Code.TOO_FEW_SITES),
        (masking("alpha", "beta", "beta"), Code.TOO_FEW_SITES),
        (Masking(1, 120, "no json"), Code.BAD_REQUEST),
        (Masking(1, 120, "[1, 2, 3]"), Code.BAD_REQUEST),
    ],
)
def test_in_a_secure_study_no_update_leaves_without_masks_of_enough_hospitals(
    site: Site, masks: Masking | None, code: Code
) -> None:
    study = tables_study(**SECURE)
    assert refused(study, permitting(study), "Train", site, masking=masks).code == code


def test_two_are_never_enough_under_masks_and_a_hospital_may_ask_for_more(site: Site) -> None:
    study = tables_study(federation={"secure_aggregation": True, "min_sites": 5})
    policy = permitting(study).model_copy(update={"min_sites": 5})
    refusal = refused(study, policy, "Train", site, masking=masking("alpha", "beta", "gamma", "delta"))
    assert refusal.code == Code.TOO_FEW_SITES
    assert "min_sites: 4 under the masks, at least 5" in str(refusal)


@pytest.mark.parametrize("task", ["Keys", "Reveal"])
def test_keys_are_for_secure_studies(site: Site, task: str) -> None:
    policy = site.policy.model_copy(update={"tasks": (*TASKS, "Keys", "Reveal")})
    assert refused(site.study, policy, task, site).code == Code.BAD_REQUEST


def test_masks_in_a_study_without_secure_aggregation_are_refused(site: Site) -> None:
    refusal = refused(site.study, site.policy, "Train", site, masking=masking("alpha", "beta", "gamma"))
    assert refusal.code == Code.BAD_REQUEST


# ---- parameters ------------------------------------------------------------------------------------------------------


def test_every_name_must_fit_a_pattern_before_training_begins(site: Site) -> None:
    manifest = Manifest(("output.weight", "output.bias", "secret.rows"), ((1, 4), (1,), (60, 6)))
    weights = Parameters(manifest, np.zeros(4 + 1 + 360, dtype=np.float32))
    policy = site.policy.model_copy(update={"parameters": ("output.*",)})
    refusal = refused(site.study, policy, "Train", site, parameters=weights)
    assert "parameters: 'secret.rows', one of 1, fits none of ['output.*']" in str(refusal)
    allowing = policy.model_copy(update={"parameters": ("output.*", "secret.*")})
    check(replace(requests(site)["Train"], parameters=weights), allowing, site.study)


def test_the_size_limit_holds_to_the_byte(site: Site) -> None:
    request = requests(site)["Train"]
    assert isinstance(request, Train)
    size = request.parameters.vector.nbytes
    check(request, site.policy.model_copy(update={"max_parameter_bytes": size}), site.study)
    with pytest.raises(Refusal, match=f"max_parameter_bytes is {size - 1}; this is {size}"):
        check(request, site.policy.model_copy(update={"max_parameter_bytes": size - 1}), site.study)


def test_what_leaves_has_the_names_and_bytes_that_were_checked(tmp_path: Path) -> None:
    """The manifest that came down is what the policy sees; no other goes up."""
    opened = hospital(tmp_path)
    asked = requests(opened)
    answer(opened, asked["Setup"])
    trained = answer(opened, asked["Train"])
    assert isinstance(trained, Trained)
    assert isinstance(asked["Train"], Train)
    assert trained.parameters.manifest == asked["Train"].parameters.manifest
    fewer = Parameters(Manifest(("output.bias",), ((1,),)), np.zeros(1, dtype=np.float32))
    assert answer(opened, replace(asked["Train"], parameters=fewer)) == Refused("alpha", Code.BAD_REQUEST)


# ---- rounds and people -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "round_"), [("Train", 0), ("Train", 3), ("Evaluate", 1), ("Assess", 1), ("Probe", 1), ("Probe", 3)]
)
def test_a_request_outside_the_studys_rounds_is_refused(site: Site, task: str, round_: int) -> None:
    assert refused(site.study, site.policy, task, site, round=round_).code == Code.BAD_REQUEST


PEOPLE: list[tuple[dict[str, int], Callable[[], StudyConfig], Code | None]] = [
    ({"training": 49, "positive": 9}, lambda: tables_study(), Code.TOO_FEW_PARTICIPANTS),
    ({"training": 50, "positive": 9}, lambda: tables_study(), None),
    (
        {"training": 50, "positive": 9},
        lambda: tables_study(federation={"min_participants": 51}),
        Code.TOO_FEW_PARTICIPANTS,
    ),
    ({"training": 50, "positive": 0}, lambda: tables_study(), Code.ONE_CLASS_ONLY),
    ({"training": 50, "positive": 50}, lambda: tables_study(), Code.ONE_CLASS_ONLY),
    ({"training": 999, "positive": 9}, lambda: tables_study(**PRIVACY), None),
    ({"training": 1000, "positive": 9}, lambda: tables_study(**PRIVACY), Code.NOT_PRIVATE_ENOUGH),
]


@pytest.mark.parametrize(("people", "make", "code"), PEOPLE)
def test_people_are_held_against_the_policy_the_study_and_its_delta(
    people: dict[str, int], make: Callable[[], StudyConfig], code: Code | None
) -> None:
    """delta = 0.001 is below one in 999 and not below one in 1000."""
    policy = Policy(min_training_participants=50)
    if code is None:
        check_people(**people, policy=policy, study=make())
    else:
        with pytest.raises(Refusal) as found:
            check_people(**people, policy=policy, study=make())
        assert found.value.code == code


@pytest.mark.parametrize(
    "wrong",
    [{"min_cell": 0}, {"min_sites": 0}, {"max_epsilon": -1.0}, {"min_training_participants": 1}, {"tasks": ("All",)}],
)
def test_a_policy_without_sense_is_refused_at_load(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Policy(**wrong)


def test_the_example_is_complete_and_loads() -> None:
    example = Path(__file__).parents[2] / "configs" / "site.example.toml"
    config = load_config(example, SiteConfig)
    written = tomllib.loads(example.read_text())
    assert set(written["policy"]) == set(Policy.model_fields)
    assert set(written["budget"]) == set(BudgetConfig.model_fields)
    assert set(SiteConfig.model_fields) - {"templates", "peers"} == set(written)
    assert not config.policy.unprotected_training
    for line in example.read_text().splitlines():
        if " = " in line and not line.startswith("#"):
            assert "#" in line, f"a key without its explanation: {line}"


def test_open_site_reads_the_policy_that_the_file_holds(folder: Path, site: Site) -> None:
    assert open_site(folder / "site.toml").policy == site.policy == permitting(site.study)
