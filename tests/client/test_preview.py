"""What the preview shows is what would leave, byte for byte; nothing leaves, nothing of the hospital's is changed."""

import hashlib
import html
import json
import math
import re
import socket
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from typer.testing import CliRunner

from client.cli import app
from client.ledger import FILE, BudgetConfig, Ledger
from client.preview import inversion
from client.preview.attacks import INSIDE, LEAVES, PLAIN
from client.preview.inversion import ALONE
from client.preview.look import Preview, preview
from client.preview.one_round import scratch_round, seen_update
from client.preview.page import page
from client.preview.permission import permitting
from client.tasks import handle
from client.workspace import SiteConfig, open_site
from sarco_models.accounting import Spend, epsilon, plan
from sarco_models.config import StudyConfig, load_config, merged
from sarco_models.errors import BudgetExceeded, ConfigError
from sarco_models.inversion import Inversion
from sarco_models.messages import Describe, Masked, Refused, Setup, Train, Trained
from sarco_models.payload import digest_of, parts_of
from tests.sites import image_site, image_study, read_csv, tables_site, tables_study, write_rows

PRIVATE: dict[str, Any] = {
    "privacy": {"epsilon": 3.0, "delta": 1e-3, "accountant": "rdp"},
    "training": {"balance_classes": False, "local_steps": 1, "optimizer": "sgd", "learning_rate": 0.1},
}
SECURE: dict[str, Any] = {"federation": {"secure_aggregation": True, "min_sites": 3}}
BUDGET = '[budget]\nlifetime_epsilon = 6.0\nstudy_epsilon = 4.0\ndelta = 1e-3\naccountant = "rdp"\n'
NOTHING = "[policy]\nmin_training_participants = 10\n"


def hospital(folder: Path, study: StudyConfig, toml: str = NOTHING + BUDGET, *, people: int = 60) -> tuple[Path, Path]:
    """A hospital with tables, and images where the study looks at them: its study and its site.toml."""
    make = image_site if study.uses_images else tables_site
    make(folder / "data", people)
    (folder / "study.json").write_text(study.model_dump_json(), encoding="utf-8")
    own = 'name = "alpha"\ndata = "data"\nstudy = "study.json"\nlabel_rule = "invented2026"\n'
    (folder / "site.toml").write_text(own + toml, encoding="utf-8")
    return folder / "study.json", folder / "site.toml"


def allowing(study: StudyConfig, **less: Any) -> str:
    """A policy that allows all of a study but what ``less`` says."""
    opened = permitting(load_policy(), study).model_dump() | {"max_parameter_bytes": 10**6} | less
    return "[policy]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in opened.items())


def load_policy() -> Any:
    return SiteConfig(name="alpha", data="", study="", label_rule="x").policy


def files(folder: Path) -> dict[str, str]:
    """Hash of every file but the cache of pixels, which is safe to delete."""
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and "cache" not in p.relative_to(folder).parts
    }


def forbidden(*_: Any, **__: Any) -> NoReturn:
    raise AssertionError("a connection was opened")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that finds a grey picture at once: how it is shown, not how far it gets."""

    def grey(*args: Any, steps: int) -> Inversion:
        return Inversion(np.full(args[3], 0.5), 1.0, {}, steps / 100)

    monkeypatch.setattr(inversion, "invert", grey)


# ---- nothing leaves, nothing is changed ------------------------------------------------------------------------------


def test_nothing_is_sent_and_nothing_of_the_hospital_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger with spends, an audit log and an approval lie there; every byte is the same afterwards."""
    study = tables_study(**PRIVATE)
    where = hospital(tmp_path, study, allowing(study) + BUDGET)
    site = open_site(where[1])
    handle(site, Describe(study.digest))
    site.ledger.close()
    before = files(tmp_path)
    assert {f"state/{FILE}", "state/audit.jsonl"} <= set(before)
    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, forbidden)
    assert page(preview(*where))
    assert files(tmp_path) == before


def test_what_is_shown_is_what_the_hospital_answers(tmp_path: Path) -> None:
    """Without noise a round is the same round: the digests are those of the hospital's real answers."""
    study = tables_study(training={"local_steps": 2})
    where = hospital(tmp_path, study, allowing(study) + '[budget]\nlifetime_epsilon = "unlimited"\n'
                     'study_epsilon = "unlimited"\n')  # fmt: skip
    with scratch_round(*where) as run:
        shown = {a.request: a.digest for a in run.answers}
        setup, start = run.setup, run.start
    site = open_site(where[1])
    real = {
        "Describe": handle(site, Describe(study.digest)),
        "Setup": handle(site, Setup(study.digest, setup.frozen, setup.moments)),
        "Train": handle(site, Train(study.digest, setup.digest, 1, start)),
    }
    assert {name: digest_of(reply) for name, reply in real.items()} == {name: shown[name] for name in real}


def test_every_piece_of_every_reply_stands_on_the_page(tmp_path: Path) -> None:
    found = preview(*hospital(tmp_path, tables_study()))
    text = page(found)
    unbroken = text.replace("<wbr>", "")
    for answer in found.answers:
        assert [p.part for p in answer.pieces] == list(parts_of(answer.reply))
        assert answer.digest in text
        for piece in answer.pieces:
            assert piece.part.name.removeprefix("parameters.").removeprefix("evaluation.") in unbroken
            assert piece.part.sha256[:10] in text
            if piece.part.kind == "metric":
                assert piece.value in text
    counts = re.findall(r'<td class="value">(\d+)</td>', text)
    assert {"60", str(found.described.training), str(found.described.training_positive)} <= set(counts)


def test_bytes_are_those_of_the_pieces_over_all_rounds(tmp_path: Path) -> None:
    study = tables_study(federation={"rounds": 7})
    found = preview(*hospital(tmp_path, study, allowing(study) + BUDGET))
    of = {a.request: sum(p.part.bytes for p in a.pieces) for a in found.answers}
    assert found.bytes_a_round == of["Train"]
    assert found.bytes_in_all == sum(of.values()) + 6 * of["Train"]


def test_the_page_loads_nothing_and_names_nobody(tmp_path: Path) -> None:
    text = page(preview(*hospital(tmp_path, tables_study())))
    assert "default-src 'none'" in html.unescape(text)
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert not re.search(r"\bP0\d\d\b", text)
    assert str(tmp_path) not in text
    assert "Keep this page inside the hospital." in text


# ---- policy ----------------------------------------------------------------------------------------------------------


def test_a_hospital_that_allows_nothing_sees_every_key_that_it_would_have_to_change(tmp_path: Path) -> None:
    found = preview(*hospital(tmp_path, tables_study()))
    keys = {m.key for m in found.keys}
    assert {"sarco-site approve", "tasks", "statistics", "unprotected_training", "plain_updates", "min_sites",
            "parameters", "max_parameter_bytes"} <= keys  # fmt: skip
    assert all(a.refused for a in found.answers)
    assert "Nothing of this study would leave today" in page(found)


def test_a_hospital_that_allows_everything_has_nothing_to_change(tmp_path: Path) -> None:
    study = tables_study(**PRIVATE)
    found = preview(*hospital(tmp_path, study, allowing(study) + BUDGET))
    assert (found.keys, found.cost.above) == ((), {})
    assert not [a.request for a in found.answers if a.refused]
    assert "would leave in each round" in page(found)


def test_only_the_request_that_is_not_allowed_is_said_to_be_refused(tmp_path: Path) -> None:
    study = tables_study(**PRIVATE)
    less = {"tasks": ["Describe", "Setup", "Train", "Evaluate"]}
    found = preview(*hospital(tmp_path, study, allowing(study, **less) + BUDGET))
    assert [a.request for a in found.answers if a.refused] == ["Assess", "Probe"]
    assert {(m.key, m.write) for m in found.keys} == {("tasks", "add Assess"), ("tasks", "add Probe")}
    assert "Part of this study would be refused today" in page(found)


def test_what_the_policy_withholds_stays_and_is_not_counted(tmp_path: Path) -> None:
    study = tables_study()
    less = {"metrics": ["auc"], "statistics": ["assessment", "leakage"]}
    found = preview(*hospital(tmp_path, study, allowing(study, **less) + BUDGET))
    stays = {f"{a.request}.{p.part.name}": p.stays for a in found.answers for p in a.pieces if p.stays}
    assert stays["Train.metrics.loss"] == 'metrics: "loss" is not among them'
    assert "sums" in stays["Describe.moments.total"]
    assert "histogram" in stays["Evaluate.histogram.positives"]
    assert "Train.metrics.auc" not in stays
    for answer in found.answers:
        assert answer.num_bytes == sum(p.part.bytes for p in answer.pieces if not p.stays)
    assert "STAYS (metrics: &#34;loss&#34; is not among them)" in page(found)


def test_too_small_a_limit_of_the_budget_is_named(tmp_path: Path) -> None:
    study = tables_study(**PRIVATE)
    tight = BUDGET.replace("lifetime_epsilon = 6.0", "lifetime_epsilon = 2.0")
    found = preview(*hospital(tmp_path, study, allowing(study) + tight))
    assert set(found.cost.above) == {"budget.lifetime_epsilon"}
    assert "budget.<wbr>lifetime_epsilon" in page(found)


def test_the_round_in_which_the_ledger_would_stop_is_the_round_in_which_it_does(tmp_path: Path) -> None:
    """The study keeps its own promise, and is above the hospital's limit of a study at the hospital's own delta."""
    study = tables_study(**merged(PRIVATE, {"federation": {"rounds": 6}, "privacy": {"statistics": "exact"}}))
    strict = BUDGET.replace("delta = 1e-3", "delta = 1e-6").replace("lifetime_epsilon = 6.0", "lifetime_epsilon = 40.0")
    where = hospital(tmp_path, study, allowing(study, max_epsilon=40.0) + strict)
    found = preview(*where, image=False)
    assert set(found.cost.above) == {"budget.study_epsilon"}
    stop = found.rounds_left
    assert 0 < stop < 6
    text = page(found)
    assert f"This study would stop after round {stop} of 6: budget" in text
    assert "Nothing of this study" not in text
    assert f"until round {stop}" in text
    assert f"Your ledger would refuse round {stop + 1} of 6: budget.study_epsilon is 4, and" in text
    config, one = load_config(where[1], SiteConfig), plan(study).training
    people = open_site(where[1]).persons
    ledger = Ledger.open(tmp_path / "other.sqlite")
    for k in range(1, stop + 1):
        ledger.charge(study=study.digest, round=k, task="Train", people=people, spend=one, budget=config.budget)
    with pytest.raises(BudgetExceeded):
        ledger.charge(study=study.digest, round=stop + 1, task="Train", people=people, spend=one, budget=config.budget)


def test_the_policys_greatest_epsilon_is_held_at_the_hospitals_own_delta(tmp_path: Path) -> None:
    study = tables_study(**PRIVATE)
    wide = BUDGET.replace("1e-3", "1e-6").replace("6.0", "60.0").replace("4.0", "60.0")
    found = preview(*hospital(tmp_path, study, allowing(study, max_epsilon=3.0) + wide), image=False)
    assert set(found.cost.above) == {"max_epsilon"}
    assert "max_epsilon" in {m.key for m in found.keys}


def test_what_the_budget_or_the_cohort_refuses_is_refused_on_the_page(tmp_path: Path) -> None:
    study = tables_study(**PRIVATE)
    nothing = BUDGET.replace("6.0", "0.0")
    found = preview(*hospital(tmp_path / "poor", study, allowing(study) + nothing), image=False)
    refused = {a.request: a.refused for a in found.answers if a.refused}
    assert set(refused) == {"Describe", "Train", "Evaluate"}
    assert all("budget.lifetime_epsilon is 0" in why for why in refused.values())
    assert "Nothing of this study would leave today" in page(found)
    few = preview(
        *hospital(tmp_path / "few", study, allowing(study, min_training_participants=50) + BUDGET), image=False
    )
    assert all("at least 50 are needed" in a.refused for a in few.answers)
    assert {m.key: m.write for m in few.keys} == {"min_training_participants": f"{few.described.training} or less"}


def test_withheld_statistics_are_said_to_be_the_studys_doing_and_nothing_is_assessed(tmp_path: Path) -> None:
    changes = merged(PRIVATE, {"privacy": {"statistics": "withheld"}, "tabular": {"scaling": "clinical_range"}})
    study = tables_study(**changes)
    found = preview(*hospital(tmp_path, study, allowing(study) + BUDGET), image=False)
    assert "Assess" not in [a.request for a in found.answers]
    stays = {p.part.name: p.stays for a in found.answers for p in a.pieces if p.stays}
    assert set(stays.values()) == {"the study withholds the sums (zeros are sent)"}
    absent = [line for a in found.answers for line in a.absent]
    assert "histogram: the study withholds it" in absent
    text = page(found)
    (beside,) = re.findall(r"Beside it go (.*?): every one is listed", text)
    assert "sums" not in beside
    assert "histogram" not in beside
    assert "there is no threshold" in text


def test_parameters_are_counted_as_approve_counts_them(tmp_path: Path) -> None:
    where = hospital(tmp_path, tables_study())
    found = preview(*where, image=False)
    text = CliRunner().invoke(app, ["approve", str(where[0]), "--site", str(where[1]), "--yes"]).output
    assert f"Trained are {found.numbers:,} numbers in" in text
    assert f"{found.numbers:,} parameters" in page(found)


# ---- price -----------------------------------------------------------------------------------------------------------


def test_epsilon_is_what_the_ledger_would_say_spent_before_included(tmp_path: Path) -> None:
    """Another study has spent on the same people; both are composed, not added."""
    study = tables_study(**PRIVATE)
    where = hospital(tmp_path, study)
    site = open_site(where[1])
    earlier = Spend(4.0, 1.0, 2)
    limits = BudgetConfig(lifetime_epsilon="unlimited", study_epsilon="unlimited", delta=1e-3, accountant="rdp")
    Ledger.open(tmp_path / "state" / FILE).charge(
        study="0" * 64, round=1, task="Train", people=site.persons, spend=earlier, budget=limits
    )
    cost, planned = preview(*where).cost, plan(study)
    assert cost.spent == pytest.approx(epsilon([earlier], 1e-3, "rdp"), abs=1e-9)
    assert cost.whole == pytest.approx(epsilon(planned.spends(), 1e-3, "rdp"), abs=1e-9)
    assert cost.one_round == pytest.approx(epsilon([planned.training], 1e-3, "rdp"), abs=1e-9)
    assert cost.after == pytest.approx(epsilon([earlier, *planned.spends()], 1e-3, "rdp"), abs=1e-9)
    assert cost.after < cost.spent + cost.whole
    assert cost.left == pytest.approx(6.0 - cost.after)
    assert cost.people == len(site.split.train)


def test_a_study_without_privacy_is_said_to_have_none(tmp_path: Path) -> None:
    found = preview(*hospital(tmp_path, tables_study()))
    assert math.isinf(found.cost.whole)
    text = page(found)
    assert "WITHOUT differential privacy" in text
    assert "for good: any later limit that is a number" in text
    assert [m.of for m in found.membership] == [LEAVES]


@pytest.mark.parametrize("changes", [{}, PRIVATE])
def test_what_epsilon_does_not_cover_stands_beside_it(tmp_path: Path, changes: dict[str, Any]) -> None:
    text = page(preview(*hospital(tmp_path, tables_study(**changes)), image=False))
    assert "protected by no epsilon at all" in text
    assert ("What this epsilon does not cover" in text) is bool(changes)


# ---- attacks ---------------------------------------------------------------------------------------------------------


def of(found: Preview, form: str) -> Any:
    assert found.inverted is not None
    return next(f for f in found.inverted.found if f.of == form)


def test_the_row_of_one_person_stands_in_an_unprotected_update_and_not_in_the_round(tmp_path: Path) -> None:
    found = preview(*hospital(tmp_path, tables_study(**PRIVATE)))
    assert found.inverted is not None
    alone, leaving = of(found, ALONE), of(found, LEAVES)
    known = np.isfinite(found.inverted.row)
    assert np.allclose(alone.row[known], found.inverted.row[known], rtol=1e-3, atol=1e-3)
    assert leaving.off > 0.02
    assert "exact; the update as it would leave: off by" in page(found)
    assert "This study looks at no images" in page(found)


def test_private_studies_are_attacked_with_and_without_their_noise(tmp_path: Path) -> None:
    found = preview(*hospital(tmp_path, tables_study(**PRIVATE)))
    assert [m.of for m in found.membership] == [PLAIN, LEAVES]
    for m in found.membership:
        assert m.found is not None
        assert (m.found.members, m.found.others) == (found.described.training, found.held_out)
        assert m.found.auc.low <= m.found.auc.value <= m.found.auc.high
    assert "its AUC cannot be above" in page(found)


def test_what_is_learned_by_heart_is_found_by_the_membership_attack(tmp_path: Path) -> None:
    """Where there is something to find: labels by chance, which can only be learned person by person."""
    study = tables_study(
        training={"local_steps": 300, "learning_rate": 0.03, "weight_decay": 0.0, "balance_classes": False},
        model={"hidden_units": 64, "dropout": 0.0},
    )
    where = hospital(tmp_path, study)
    rows, rng = read_csv(tmp_path / "data" / "participants.csv"), np.random.default_rng(3)
    write_rows(tmp_path / "data" / "participants.csv", [{**row, "frail": str(rng.integers(2))} for row in rows])
    (found,) = preview(*where, image=False).membership
    assert found.found is not None
    assert found.found.auc.value > 0.7
    assert found.found.auc.low > 0.5


def test_the_coordinator_sees_nothing_of_a_masked_update(tmp_path: Path) -> None:
    where = hospital(tmp_path, tables_study(**SECURE, model={"hidden_units": 256}))
    with scratch_round(*where) as run:
        seen = seen_update(run)
        assert seen is not None
        assert isinstance(run.only(Masked), Masked)
        moved = run.after.vector - run.start.vector
        masked = seen.vector - run.start.vector
    assert abs(float(np.corrcoef(moved, masked)[0, 1])) < 0.1
    assert masked.std() > 100 * moved.std()


def test_a_secure_study_shows_keys_masks_and_seed_and_both_attacks(tmp_path: Path) -> None:
    found = preview(*hospital(tmp_path, tables_study(**SECURE)))
    assert [a.request for a in found.answers] == [
        "Describe", "Setup", "Keys", "Train", "Reveal", "Evaluate", "Assess", "Probe",
    ]  # fmt: skip
    assert not any(isinstance(a.reply, Trained | Refused) for a in found.answers)
    assert [m.of for m in found.membership] == [INSIDE, LEAVES]
    assert of(found, LEAVES).off > 0.02
    assert "two hospitals were made up" in page(found)


def test_an_image_is_attacked_and_shown(tmp_path: Path, quick: None) -> None:
    shown = preview(*hospital(tmp_path, image_study(), people=16))
    assert shown.inverted is not None
    assert shown.inverted.truth is not None
    assert [f.of for f in shown.inverted.found] == [ALONE, LEAVES]
    text = page(shown)
    assert text.count("data:image/png") == 3
    assert text.count("not recognised: correlation 0.00") == 2
    assert "It shows the image and the table row of one participant." in text


def test_the_persons_data_are_left_out_on_request(tmp_path: Path) -> None:
    where = hospital(tmp_path, tables_study())
    shown, hidden = page(preview(*where)), page(preview(*where, image=False))
    assert "values, column by column" in shown
    assert "values, column by column" not in hidden
    assert "It holds your own numbers, and nobody&#39;s image." in hidden


@pytest.mark.slow
def test_the_image_of_one_person_is_found_in_an_unprotected_update_and_not_in_a_private_one(tmp_path: Path) -> None:
    study = image_study(**{**PRIVATE, "model": {"trainable": "all"}})
    found = preview(*hospital(tmp_path, study, people=30))
    assert of(found, ALONE).correlation > 0.5
    assert of(found, LEAVES).correlation < 0.3


# ---- what cannot be had, and the command -----------------------------------------------------------------------------


def test_starting_weights_that_cannot_be_had_are_replaced_and_it_is_said(tmp_path: Path, quick: None) -> None:
    study = image_study(model={"weights": "/nowhere/weights.safetensors"})
    found = preview(*hospital(tmp_path, study, people=16), image=False)
    assert len(found.notes) == 1
    assert "began with random ones" in found.notes[0]
    assert found.notes[0].split(".")[0] in page(found)


def test_a_study_that_no_policy_could_answer_is_an_error_that_says_why(tmp_path: Path) -> None:
    where = hospital(tmp_path, tables_study(federation={"min_participants": 500}))
    with pytest.raises(ConfigError, match=r"cannot answer Describe of tiny, whatever it allows: .*at least 500"):
        preview(*where)


def test_the_study_need_not_be_the_one_of_site_toml(tmp_path: Path) -> None:
    _, site = hospital(tmp_path, tables_study())
    other = tmp_path / "other.json"
    other.write_text(tables_study(federation={"rounds": 9}).model_dump_json())
    found = preview(other, site, image=False)
    assert found.study.digest == load_config(other, StudyConfig).digest
    assert "9 rounds" in page(found)


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    study, site = hospital(tmp_path, tables_study())
    out = tmp_path / "page.html"
    command = ["preview", str(study), "--site", str(site), "--out", str(out), "--no-image"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert out.stat().st_mode & 0o777 == 0o600
    assert CliRunner().invoke(app, [*command[:1], str(tmp_path / "none.toml"), *command[2:]]).exit_code == 1


def test_the_page_of_synthetic_people_says_so(tmp_path: Path) -> None:
    where = hospital(tmp_path, tables_study())
    assert "SYNTHETIC" not in page(preview(*where, image=False))
    (tmp_path / "data" / "manifest.json").write_text('{"synthetic": true}')
    assert "SYNTHETIC" in page(preview(*where, image=False))


@pytest.mark.parametrize(
    "changes",
    [
        {
            **PRIVATE,
            "privacy": {**PRIVATE["privacy"], "statistics": "withheld"},
            "tabular": {"scaling": "clinical_range"},
        },
        {**PRIVATE, "privacy": {**PRIVATE["privacy"], "statistics": "exact"}},
        {**PRIVATE, "privacy": {**PRIVATE["privacy"], "adaptive_clipping": True}},
        {"tabular": {"scaling": "minmax"}},
        {"federation": {"strategy": "fedprox", "proximal_mu": 0.1}, "model": {"tabular": "per_group"}},
    ],
)
def test_studies_of_every_kind_can_be_looked_at(tmp_path: Path, changes: dict[str, Any]) -> None:
    study = tables_study(**(merged(PRIVATE, changes) if "privacy" in changes else changes))
    found = preview(*hospital(tmp_path, study))
    assert of(found, ALONE).off < 1e-3
    assert of(found, LEAVES).off > 0.02
    assert len(page(found)) > 20_000
