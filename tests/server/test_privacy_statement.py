"""A run's epsilon is what its rounds cost, not what its study promised; two units never share a column."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from sarco_models.accounting import Spend, epsilon, plan
from sarco_models.config import StudyConfig
from sarco_models.errors import ChainBroken, RunError
from sarco_models.protection import PrivacyConfig
from sarco_models.uncovered import odds, uncovered
from server import privacy_statement
from server.guarantees import Guarantee, Mechanism, UnitTable, tables
from server.heads import FILE, note
from server.privacy_statement import facts, of_run, repeated_rounds
from server.runs import Run
from tests.sites import tables_study

PRIVACY = {"epsilon": 3.0, "delta": 1e-3, "accountant": "rdp"}
PRIVATE: dict[str, Any] = {
    "privacy": PRIVACY,
    "training": {"balance_classes": False, "local_steps": 5, "optimizer": "sgd"},
    "federation": {"rounds": 4},
}


def a_run(folder: Path, study: StudyConfig, rounds: int | None = None) -> Run:
    """A run directory with the records of so many rounds; nothing was trained."""
    run = Run.create(folder, study)
    sites = {"alpha": {"participants": 60, "training": 36}, "beta": {"participants": 40, "training": 24}}
    for k in range(1 + (study.federation.rounds if rounds is None else rounds)):
        found = sites if k == 0 else {name: {"participants": s["training"]} for name, s in sites.items()}
        run.record(k, {"sites": found, "central": {}, "failures": {}, "seconds": 0.0}, None)
    return run


def heads(run: Run, *answers: tuple[str, str, int]) -> None:
    """What the coordinator keeps of the hospitals' answers, each with a further head."""
    for n, (site, task, round_) in enumerate(answers, start=1):
        assert note(run.folder, site, task, round_, f"{n}:{'0' * 64}") == ""


@pytest.fixture(scope="module")
def private() -> StudyConfig:
    return tables_study(**PRIVATE)


def test_epsilon_is_that_of_the_rounds_that_were_run(tmp_path: Path, private: StudyConfig) -> None:
    """Composed here by hand from the noise that the sites must have used."""
    planned = plan(private)
    assert planned.statistics is not None
    statistics = Spend(planned.statistics.noise_multiplier, 1.0, planned.releases)
    found = []
    for rounds in (1, 2, 4):
        (guarantee,) = of_run(a_run(tmp_path / str(rounds), private, rounds)).guarantees
        trained = Spend(planned.training.noise_multiplier, planned.training.sample_rate, 5 * rounds)
        assert guarantee.epsilon == pytest.approx(epsilon([trained, statistics], 1e-3, "rdp"), abs=1e-12)
        found.append(guarantee.epsilon)
    assert found == sorted(found)
    assert found[0] < 0.8 * found[-1]
    assert found[-1] == pytest.approx(3.0, abs=0.01)
    assert found[-1] <= 3.0


def test_a_spare_round_that_was_answered_again_is_paid_for_and_said(tmp_path: Path) -> None:
    study = tables_study(**{**PRIVATE, "privacy": {**PRIVACY, "spare_rounds": 2}})
    run = a_run(tmp_path, study)
    (once,) = of_run(run).guarantees
    heads(run, *(("alpha", "Train", k) for k in (1, 2, 2, 3, 4)), ("beta", "Train", 1), ("beta", "Evaluate", 4))
    statement = of_run(run)
    (guarantee,) = statement.guarantees
    assert repeated_rounds(run.folder) == 1
    assert once.epsilon < guarantee.epsilon < 3.0
    assert guarantee.kept
    assert guarantee.rounds_words == "4 (1 answered again, 2 spare)"
    assert "1 answer to a round came a second time" in statement.to_markdown()


def test_beyond_the_spare_rounds_a_hospitals_ledger_refuses_so_that_it_sent_what_it_had_kept(
    tmp_path: Path, private: StudyConfig
) -> None:
    run = a_run(tmp_path, private)
    (once,) = of_run(run).guarantees
    heads(run, *(("alpha", "Train", k) for k in (1, 2, 2, 2, 3, 4)))
    (guarantee,) = of_run(run).guarantees
    assert (guarantee.repeated_rounds, guarantee.epsilon) == (2, once.epsilon)


def test_a_run_that_went_beyond_its_study_is_said_to_have_broken_its_promise(
    tmp_path: Path, private: StudyConfig
) -> None:
    statement = of_run(a_run(tmp_path, private, rounds=7))
    (guarantee,) = statement.guarantees
    assert guarantee.epsilon > 3.5
    assert not guarantee.kept
    assert "THE PROMISE WAS NOT KEPT: the study had promised epsilon 3" in statement.to_markdown()


def test_heads_that_were_edited_are_not_counted_but_refused(tmp_path: Path, private: StudyConfig) -> None:
    run = a_run(tmp_path, private)
    heads(run, ("alpha", "Train", 1), ("alpha", "Train", 1), ("alpha", "Train", 2))
    path = run.folder / FILE
    path.write_text(path.read_text().replace('"round":1', '"round":3'))
    with pytest.raises(ChainBroken):
        of_run(run)


def test_without_privacy_no_epsilon_is_given_and_that_is_said(tmp_path: Path) -> None:
    statement = of_run(a_run(tmp_path, tables_study()))
    assert statement.guarantees == ()
    text = statement.to_markdown()
    assert "There was NO differential privacy in this run (60 training participants of 2 hospitals)" in text
    assert "parameters without clipping and noise" in text
    assert "| Epsilon |" not in text
    assert "<th" in statement.to_html()
    assert "Noise multiplier" not in statement.to_html()


def test_a_run_that_never_began_has_no_statement(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no record of its start"):
        of_run(Run.create(tmp_path, tables_study()))


# ---- what epsilon does not cover -------------------------------------------------------------------------------------


def test_what_is_not_covered_stands_beside_every_epsilon(tmp_path: Path, private: StudyConfig) -> None:
    statement = of_run(a_run(tmp_path, private), synthetic=True)
    words = ("hospital took part", "How many participants", "validation participants in every round", "test particip",
             "leakage probe", "rule behind the labels (invented2026)", "random numbers")  # fmt: skip
    for shown in (statement.to_markdown(), statement.to_html()):
        assert [w for w in words if w not in shown] == []
        assert "without noise" not in shown
    assert "SYNTHETIC" in statement.to_markdown()


@pytest.mark.parametrize("kind", ["private", "withheld", "exact"])
def test_exact_statistics_are_named_as_outside(kind: str) -> None:
    study = tables_study(**{**PRIVATE, "privacy": {**PRIVACY, "statistics": kind}})
    named = [line for line in uncovered(study) if "without noise. The study says so" in line]
    assert len(named) == (kind == "exact")


@pytest.mark.parametrize(
    ("kind", "releases"),
    [
        ("private", {privacy_statement.STATISTICS: 2}),
        ("withheld", {privacy_statement.CASES: 1}),
        ("exact", {}),
    ],
)
def test_statistics_cost_what_is_released_of_them_under_noise(
    tmp_path: Path, kind: str, releases: dict[str, int]
) -> None:
    study = tables_study(**{**PRIVATE, "privacy": {**PRIVACY, "statistics": kind}})
    (guarantee,) = of_run(a_run(tmp_path, study)).guarantees
    assert {m.name: m.rounds for m in guarantee.mechanisms} == {privacy_statement.TRAINING: 4, **releases}
    assert 2.98 <= guarantee.epsilon <= 3.0


def test_odds_are_those_of_the_definition() -> None:
    assert f"factor of {math.exp(3):.0f} at most" in odds(3.0, 1e-5)
    assert "factor of 2,981 at most, but for a chance of 1 in 100,000" in odds(8.0, 1e-5)
    assert "more than a million" in odds(math.inf, 1e-5)
    assert "their odds" not in odds(3.0, 1e-5)  # of whoever looks, not of the person


def test_what_a_refusal_a_split_a_probe_and_a_family_tell_is_said(private: StudyConfig) -> None:
    text = " ".join(uncovered(private))
    for words in (
        "tells the number of cases modulo a few",
        "tells that people of the hospital were in earlier studies",
        "the numbers in steps of .05",
        "may learn one person's membership",
        "leaves leakage out of statistics",
        "for two, epsilon is 6 and delta 0.021.",  # delta (1 + e**3)
    ):
        assert words in text, words
    open_ = " ".join(uncovered(tables_study()))
    assert "steps of .05" not in open_
    assert "for two, epsilon" not in open_


def test_the_arms_own_settings_are_written_down_for_the_report(tmp_path: Path, private: StudyConfig) -> None:
    found = facts(a_run(tmp_path, private))["privacy"]
    assert (found["modalities"], found["statistics"]) == (["clinical", "lab"], "private")
    assert (found["secure_aggregation"], found["private"]) == (False, True)


# ---- units -----------------------------------------------------------------------------------------------------------


def guarantee(unit: str, value: float) -> Guarantee:
    noise = Mechanism("noise", 1.0, 1.0, 1.0, 1, 4, value)
    return Guarantee(unit, value, 1e-5, "rdp", 8.0, (noise,), 4)  # type: ignore[arg-type]


def test_epsilons_of_two_units_cannot_be_put_into_one_column() -> None:
    with pytest.raises(ValueError, match="cannot hold those of another unit"):
        UnitTable("participant", (("one", guarantee("participant", 1.25)), ("two", guarantee("hospital", 7.77))))
    split = tables([("one", guarantee("hospital", 7.77)), ("two", guarantee("participant", 1.25))])
    assert [(t.unit, [row[2] for row in t.cells()]) for t in split] == [
        ("participant", ["1.25"]), ("hospital", ["7.77"]),
    ]  # fmt: skip


def test_a_hospitals_epsilon_never_stands_in_a_participants_table(tmp_path: Path, private: StudyConfig) -> None:
    plain = of_run(a_run(tmp_path, private))
    both = privacy_statement.PrivacyStatement(
        **{**plain.__dict__, "guarantees": (guarantee("participant", 1.25), guarantee("hospital", 7.77))}
    )
    for text, end in ((both.to_markdown(), "\n\n"), (both.to_html(), "</table>")):
        blocks = [block for block in text.split(end) if "Epsilon" in block]
        assert len(blocks) == 2
        assert ["1.25" in block for block in blocks] == [True, False]
        assert ["7.77" in block for block in blocks] == [False, True]
    assert "never to be compared" in both.to_markdown()


def test_a_guarantee_survives_json_also_without_limit(private: StudyConfig, tmp_path: Path) -> None:
    (found,) = of_run(a_run(tmp_path, private)).guarantees
    assert Guarantee.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found
    unlimited = guarantee("participant", math.inf)
    assert Guarantee.from_dict(json.loads(json.dumps(unlimited.to_dict(), allow_nan=False))) == unlimited


def test_a_study_cannot_state_a_guarantee_of_its_own() -> None:
    """The statement is recomputed: there is no key to write the noise or a hospital's epsilon in."""
    assert {"noise_multiplier", "unit"}.isdisjoint(PrivacyConfig.model_fields)
