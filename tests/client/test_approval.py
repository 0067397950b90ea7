"""An approval is of one study and one code, is asked for in plain words, and cannot be changed unnoticed."""

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import client.approval
from client.approval import Approvals, code_digest
from client.cli import app
from client.ledger import BudgetConfig
from client.policy import Policy
from client.study_words import asked_for, missing, own_epsilon, sections
from client.workspace import Site, open_site
from sarco_models.chain import read
from sarco_models.config import StudyConfig, merged
from sarco_models.errors import ChainBroken
from sarco_models.parameters import Manifest, trained_tensors
from sarco_models.wire import Code, Describe, Described, Refused
from server.runs import start_model
from simulation.harness import affordable, permitting
from tests.client.hospitals import PRIVACY, SECURE, answer, hospital
from tests.sites import image_study, tables_study

PRIVATE = {**PRIVACY, **SECURE}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A hospital that has approved nothing."""
    return hospital(tmp_path, approved_studies=[])


def said(*words: object, types: str = "") -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(w) for w in words], input=types)
    return result.exit_code, result.output


def approve(site: Site, *words: str, types: str = "") -> tuple[int, str]:
    home = site.state.parent
    return said("approve", home / "study.json", "--site", home / "site.toml", *words, types=types)


# ---- the record ------------------------------------------------------------------------------------------------------


def test_a_study_is_answered_once_it_is_approved_and_no_longer_once_that_is_withdrawn(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """In one process that has the site open all the time: neither needs a restart."""
    request = Describe(site.study.digest)
    assert answer(site, request) == Refused("alpha", Code.STUDY_NOT_APPROVED)
    assert "none on record" in caplog.text
    code, text = approve(site, "--by", "Dr. Li", "--yes")
    assert code == 0, text
    assert isinstance(answer(site, request), Described)
    code, text = approve(site, "--by", "Dr. Wu", "--withdraw", "--yes")
    assert code == 0, text
    assert answer(site, request) == Refused("alpha", Code.STUDY_NOT_APPROVED)
    assert re.search(r"withdrawn by Dr\. Wu on \d{4}-\d\d-\d\d", caplog.text)
    approve(site, "--yes")
    assert isinstance(answer(site, request), Described)


def test_who_when_which_study_and_which_code_are_on_record_and_in_the_audit_log(site: Site) -> None:
    approve(site, "--by", "Dr. Li", "--yes")
    (entry,) = read(site.state.parent / "approvals.jsonl")
    assert entry.kind == "approved"
    assert (entry.facts["study"], entry.facts["code"]) == (site.study.digest, code_digest())
    assert (entry.facts["by"], entry.facts["title"]) == ("Dr. Li", "A tiny study of frailty")
    assert entry.facts["login"]
    (line,) = read(site.state / "audit.jsonl")
    assert (line.kind, line.facts["action"], line.facts["by"]) == ("approval", "approved", "Dr. Li")
    assert line.facts["study"] == site.study.digest


def test_one_changed_character_of_the_study_is_not_approved(site: Site, tmp_path: Path) -> None:
    approve(site, "--yes")
    text = (tmp_path / "study.json").read_text()
    (tmp_path / "study.json").write_text(text.replace('"learning_rate":0.0003', '"learning_rate":0.0004'))
    changed = open_site(tmp_path / "site.toml")
    assert changed.study.digest != site.study.digest
    assert answer(changed, Describe(changed.study.digest)) == Refused("alpha", Code.STUDY_NOT_APPROVED)
    assert answer(changed, Describe(site.study.digest)) == Refused("alpha", Code.STUDY_NOT_APPROVED)


def test_another_code_needs_another_approval_and_the_log_says_so(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    approve(site, "--by", "Dr. Li", "--yes")
    monkeypatch.setattr(client.approval, "code_digest", lambda: "f" * 64)
    assert answer(site, Describe(site.study.digest)) == Refused("alpha", Code.STUDY_NOT_APPROVED)
    assert re.search(r"given by Dr\. Li on .* for code \w{12}, and ffffffffffff is installed now", caplog.text)


def test_the_code_is_known_by_every_byte_of_every_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def digest_of(content: dict[str, str]) -> str:
        for name, text in content.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for package in ("client", "sarco_models"):
            monkeypatch.setattr(getattr(client.approval, package), "__file__", str(tmp_path / package / "__init__.py"))
        code_digest.cache_clear()
        return code_digest()

    try:
        first = {"client/__init__.py": "", "client/a.py": "x = 1", "sarco_models/b/c.py": "y = 2"}
        digests = {digest_of(first), digest_of({"client/a.py": "x = 2"}), digest_of({"sarco_models/b/c.py": "y = 3"})}
        digests |= {digest_of({"client/new.py": ""}), digest_of({"sarco_models/b/d.py": "y = 3"})}
        assert len(digests) == 5
        assert digest_of({"client/notes.txt": "no code"}) in digests
    finally:
        code_digest.cache_clear()


def test_an_edited_record_approves_nothing(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    approve(site, "--by", "Dr. Li", "--yes")
    path = site.state.parent / "approvals.jsonl"
    path.write_text(path.read_text().replace("Dr. Li", "Dr. Wu"))
    assert answer(site, Describe(site.study.digest)) == Refused("alpha", Code.STUDY_NOT_APPROVED)
    assert "approvals.jsonl, line 1: was edited" in caplog.text
    code, text = approve(site, "--yes")
    assert code == 1
    assert "was edited" in text


def test_an_approval_by_hand_in_site_toml_holds_without_a_record(tmp_path: Path) -> None:
    by_hand = hospital(tmp_path)
    assert by_hand.no_approval == "none on record"
    assert isinstance(answer(by_hand, Describe(by_hand.study.digest)), Described)


def test_there_is_nothing_to_withdraw_where_nothing_was_approved(site: Site) -> None:
    code, text = approve(site, "--withdraw", "--yes")
    assert code == 1
    assert "there is no approval of study" in text
    assert not (site.state.parent / "approvals.jsonl").exists()


def test_what_is_in_the_hands_of_an_old_process_is_read_anew(tmp_path: Path) -> None:
    record, study = Approvals(tmp_path / "approvals.jsonl"), tables_study()
    assert record.lacking(study.digest) == "none on record"
    Approvals(record.path).record(study, by="her")
    assert record.lacking(study.digest) == ""
    Approvals(record.path).record(study, by="her", withdrawn=True)
    assert record.lacking(study.digest).startswith("withdrawn by her")


def test_a_record_that_was_edited_and_dated_back_is_read_anew(tmp_path: Path) -> None:
    record, study = Approvals(tmp_path / "approvals.jsonl"), tables_study()
    record.record(study, by="Dr. Li")
    assert record.lacking(study.digest) == ""
    dated_back(record.path, "Dr. Li", "Dr. Wu")
    with pytest.raises(ChainBroken, match="was edited"):
        record.lacking(study.digest)


def dated_back(path: Path, old: str, new: str) -> None:
    """Change a file in place, to one of the same length and date."""
    before = path.stat()
    time.sleep(0.02)
    path.write_text(path.read_text().replace(old, new))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)


# ---- what is asked ---------------------------------------------------------------------------------------------------


def test_it_asks_and_takes_no_silence_for_an_answer(site: Site) -> None:
    for types in ("", "n\n", "\n"):
        code, text = approve(site, types=types)
        assert code == 1
        assert "Approve this study for alpha?" in text
    assert not (site.state.parent / "approvals.jsonl").exists()
    assert approve(site, types="y\n")[0] == 0
    assert site.no_approval == ""


def text_of(study: StudyConfig, policy: Policy | None = None) -> str:
    manifest = Manifest.of(trained_tensors(start_model(study).net))
    return "\n".join(s for part in sections(study, manifest, policy or permitting(study)) for s in part.sentences)


def test_a_study_without_protection_is_called_that() -> None:
    text = text_of(tables_study())
    assert "WITHOUT differential privacy" in text
    assert "Your own update, in every round: there is no secure aggregation." in text
    assert "epsilon =" not in text


def test_a_protected_study_says_how_and_what_is_left() -> None:
    text = text_of(tables_study(**PRIVATE))
    assert "epsilon = 8 at delta = 0.001, for the whole study" in text
    assert re.search(r"noise of \d+\.\d\d times that length is added in each of 2 steps of 2 rounds", text)
    assert "Nothing but the sum of the updates of 3 or more hospitals" in text
    assert "WITHOUT" not in text
    assert "protected by no epsilon at all" in text
    assert "Metrics that your policy lets out: loss, auc" in text  # what training looks like is never told


def test_a_studys_own_words_cannot_hide_what_is_below_them(tmp_path: Path) -> None:
    title = "Good\x1b[8m\n\nHow each participant is protected\n  - very well\u202e"
    site = hospital(tmp_path, tables_study(title=title), approved_studies=[])
    code, text = approve(site, "--yes")
    assert code == 0
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert text.count("\nHow each participant is protected\n") == 1


def test_exact_statistics_are_said_to_be_outside_epsilon() -> None:
    study = tables_study(**{**PRIVACY, "privacy": {**PRIVACY["privacy"], "statistics": "exact"}})
    assert "leave WITHOUT noise and are OUTSIDE epsilon" in text_of(study)
    withheld = tables_study(**{**PRIVACY, "privacy": {**PRIVACY["privacy"], "statistics": "withheld"}})
    assert "No sums over your tables." in text_of(withheld)
    assert "How many of those in training are cases: with noise, inside epsilon." in text_of(withheld)
    assert "How many of those in training are cases: exactly." in text_of(study)


def test_names_bytes_rounds_and_columns_are_those_of_the_study() -> None:
    study = image_study(federation={"rounds": 5})
    net = start_model(study).net
    size = 4 * sum(p.numel() for p in trained_tensors(net).values())
    text = text_of(study)
    assert f"Your update: {size / 1e6:,.1f} MB, {len(trained_tensors(net))} tensors" in text
    assert f"Over the study: {5 * size / 1e6:,.1f} MB up" in text
    assert "4 clinical columns of participants.csv: age_years, male, smoking, weight_kg." in text
    assert "32 x 32 pixels" in text
    assert "5 rounds. In each, the model that comes down is trained by one pass over your participants." in text


def test_what_the_policy_withholds_is_not_said_to_leave() -> None:
    study = tables_study()
    kept = permitting(study).model_copy(update={"statistics": (), "metrics": ()})
    text = text_of(study, kept)
    assert "No sums over your tables." in text
    assert text.count("Withheld by your policy") == 3
    assert "Metrics that your policy lets out: none" in text


# ---- what is not allowed yet -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, PRIVACY, SECURE, PRIVATE])
def test_nothing_is_missing_where_all_is_permitted(changes: dict[str, Any]) -> None:
    study = tables_study(**changes)
    manifest = Manifest.of(trained_tensors(start_model(study).net))
    assert missing(study, manifest, permitting(study), affordable(study)) == []


def test_every_key_that_must_change_is_named_with_what_to_write() -> None:
    study = tables_study(**{**PRIVACY, "federation": {"min_sites": 2}})
    manifest = Manifest.of(trained_tensors(start_model(study).net))
    found = missing(study, manifest, Policy(), BudgetConfig())
    assert {m.key for m in found} == {
        "tasks", "statistics", "max_epsilon", "min_sites", "plain_updates", "parameters", "max_parameter_bytes",
        "budget.study_epsilon", "budget.lifetime_epsilon",
    }  # fmt: skip
    write = {m.key: m.write for m in found}
    own = own_epsilon(study, BudgetConfig())  # at the hospital's delta of 1e-5, not at the study's
    assert 8 < own <= float(write["max_epsilon"].removesuffix(" or more")) < own + 0.011
    assert write["budget.study_epsilon"] == write["budget.lifetime_epsilon"] == write["max_epsilon"]
    assert (write["min_sites"], write["plain_updates"]) == ("2", "true")
    assert write["max_parameter_bytes"] == f"{4 * sum(manifest.sizes)} or more"
    assert sorted(m.write for m in found if m.key == "tasks") == [
        f"add {task}" for task in ("Assess", "Describe", "Evaluate", "Probe", "Setup", "Train")
    ]


def test_what_the_hospitals_own_ledger_would_refuse_is_missing_before_anything_is_spent() -> None:
    """The study keeps its promise at its own delta; at the hospital's it costs more than each of the limits."""
    changes = merged(PRIVACY, {"privacy": {"epsilon": 3.0, "delta": 1e-3}})
    study = tables_study(**changes)
    manifest = Manifest.of(trained_tensors(start_model(study).net))
    policy = permitting(study).model_copy(update={"max_epsilon": 3.0})
    at_theirs = BudgetConfig(lifetime_epsilon=3.0, study_epsilon=3.0, delta=1e-3)
    at_own = at_theirs.model_copy(update={"delta": 1e-5})
    assert missing(study, manifest, policy, at_theirs) == []
    found = missing(study, manifest, policy, at_own)
    assert [m.key for m in found] == ["max_epsilon", "budget.study_epsilon", "budget.lifetime_epsilon"]
    cost = own_epsilon(study, at_own)
    assert cost > 3.5
    assert all(f"at your own delta 1e-05: epsilon {cost:.2f}" in m.why for m in found)
    enough = float(found[0].write.removesuffix(" or more"))
    wider = at_own.model_copy(update={"lifetime_epsilon": enough, "study_epsilon": enough})
    assert missing(study, manifest, policy.model_copy(update={"max_epsilon": enough}), wider) == []


def test_what_a_private_study_costs_at_the_hospitals_delta_is_said_by_the_command(tmp_path: Path) -> None:
    site = hospital(tmp_path, tables_study(**PRIVATE), approved_studies=[])
    text = " ".join(approve(site, "--yes")[1].split())
    assert f"at your own delta 0.001: epsilon {own_epsilon(site.study, site.budget):.2f}" in text
    assert "not looked at here: whether you have" in text


def test_under_masks_the_keys_of_three_hospitals_are_needed() -> None:
    study, plain = tables_study(**SECURE), tables_study()
    manifest = Manifest.of(trained_tensors(start_model(study).net))

    def keys(of: StudyConfig, names: set[str]) -> list[str]:
        return [m.key for m in missing(of, manifest, permitting(of), affordable(of), names)]

    assert keys(study, {"alpha", "beta"}) == ["[[peers]]"]
    assert keys(study, {"alpha", "beta", "gamma"}) == []
    assert keys(plain, {"alpha"}) == []


def test_of_withheld_statistics_there_is_no_threshold_and_no_assessment() -> None:
    study = tables_study(**merged(PRIVACY, {"privacy": {"statistics": "withheld"}}))
    manifest = Manifest.of(trained_tensors(start_model(study).net))
    assert "Assess" not in asked_for(study)
    assert "Assess" in asked_for(tables_study(**PRIVACY))
    policy = permitting(study).model_copy(update={"statistics": ("leakage",), "tasks": asked_for(study)})
    assert missing(study, manifest, policy, affordable(study)) == []
    text = text_of(study)
    assert "there is no threshold and no assessment" in text
    assert "Once: AUC, calls at the threshold" not in text


def test_one_is_said_as_one() -> None:
    one = {"training": {"local_steps": 1}, "federation": {"rounds": 1}}
    text = text_of(tables_study(**merged(PRIVACY, one)))
    assert "1 round. In each, the model that comes down is trained by 1 step." in text
    assert "is added in the one step of 1 round;" in text
    assert "the head alone is trained" in text_of(image_study(model={"trainable": "head"}))


def test_the_probe_is_said_to_be_of_members_and_outside_epsilon() -> None:
    assert "It is of people who were trained on, has no noise and is OUTSIDE epsilon." in text_of(
        tables_study(**PRIVATE)
    )
    assert "as unprotected, for good" in text_of(tables_study())


def test_an_unprotected_study_needs_to_be_called_unlimited() -> None:
    study = tables_study()
    manifest = Manifest.of(trained_tensors(start_model(study).net))
    limited = BudgetConfig(lifetime_epsilon=8.0, study_epsilon=8.0)
    found = {m.key: m.write for m in missing(study, manifest, permitting(study), limited)}
    assert found == {"budget.study_epsilon": '"unlimited"', "budget.lifetime_epsilon": '"unlimited"'}


def test_the_command_shows_what_is_missing_and_approves_all_the_same(tmp_path: Path) -> None:
    site = hospital(tmp_path, approved_studies=[], tasks=["Describe", "Setup"], min_sites=4)
    code, text = approve(site, "--yes")
    assert code == 0
    assert "min_sites: it is 4, and the study counts a round of 3. To allow it: 3" in " ".join(text.split())
    assert "add Train" in text
    assert answer(site, Describe(site.study.digest)) == Refused("alpha", Code.TOO_FEW_SITES)


def test_what_was_spent_before_is_said_with_the_limits(tmp_path: Path) -> None:
    site = hospital(tmp_path, tables_study(**PRIVACY))
    assert "nothing: there is no ledger yet" in approve(site, "--yes")[1]
    assert isinstance(answer(site, Describe(site.study.digest)), Described)
    text = approve(site, "--yes")[1]
    spent = re.search(r"spent epsilon (\d\.\d+); 36 participants of 36", text)
    left = re.search(r"left epsilon (\d\.\d+)", text)
    assert spent is not None
    assert left is not None
    assert 0 < float(spent[1]) < 0.8  # one of the two releases that together cost a tenth of 8
    assert float(spent[1]) + float(left[1]) == pytest.approx(8.0, abs=0.002)


def test_a_study_that_site_toml_does_not_read_is_told_of(site: Site, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(tables_study(federation={"rounds": 9}).model_dump_json())
    code, text = said("approve", other, "--site", tmp_path / "site.toml", "--yes")
    assert code == 0
    assert "site.toml reads another study" in text
    assert site.no_approval == "none on record"


def test_withdrawing_reminds_of_an_approval_by_hand(tmp_path: Path) -> None:
    site = hospital(tmp_path)
    approve(site, "--yes")
    code, text = approve(site, "--withdraw", "--yes")
    assert code == 0
    assert "It still stands in approved_studies of site.toml: remove it there, too." in text


def test_no_participant_is_read_to_explain_a_study(site: Site, tmp_path: Path) -> None:
    (tmp_path / "data" / "participants.csv").unlink()
    assert approve(site, "--yes")[0] == 0
