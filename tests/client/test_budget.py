"""What a hospital reads about its budget is what its ledger holds, in words, and without opening anybody's data."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from client import ledger_rows
from client.budget import told
from client.budget_figures import Summary, summary
from client.budget_page import page, picture
from client.budget_words import figures, lines
from client.cli import app
from client.ledger import FILE, BudgetConfig, Ledger
from client.person_sets import PersonSet, tables_digest
from sarco_models.accounting import UNPROTECTED, Spend, epsilon
from sarco_models.errors import ChainBroken, ConfigError
from tests.sites import read_csv, site_of, tables_study, write_rows

STUDY, OTHER = tables_study(title="A tiny study of frailty").digest, "b" * 64
BUDGET = BudgetConfig(lifetime_epsilon=8.0, study_epsilon=4.0, accountant="rdp")
UNLIMITED = BudgetConfig(lifetime_epsilon="unlimited", study_epsilon="unlimited", accountant="rdp")
ROUND, RELEASE = Spend(12.0, 1.0, 2), Spend(30.0, 1.0, 1)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """site.toml of a synthetic hospital of 24, beside its tables and its study."""
    site_of(tmp_path / "data", tables_study())
    (tmp_path / "study.toml").write_text(STUDY_TOML, encoding="utf-8")
    file = tmp_path / "site.toml"
    file.write_text(
        'name = "centre_a"\ndata = "data"\nstudy = "study.toml"\nlabel_rule = "invented2026"\n'
        '[budget]\nlifetime_epsilon = 8.0\nstudy_epsilon = 4.0\naccountant = "rdp"\n',
        encoding="utf-8",
    )
    return file


STUDY_TOML = """
name = "tiny"
title = "A tiny study of frailty"
[label]
column = "frail"
rule = "invented2026"
[model]
modalities = ["clinical"]
[[features]]
name = "age_years"
group = "clinical"
low = 18.0
high = 110.0
"""


def people(site: Path, count: int = 12) -> PersonSet:
    table = site.parent / "data" / "participants.csv"
    ids = [row["participant_id"] for row in read_csv(table)]
    return PersonSet.of(ids[:count], ids, tables_digest(table))


def opened(site: Path) -> Ledger:
    return Ledger.open(site.parent / "state" / FILE)


def spend(ledger: Ledger, who: PersonSet, study: str = STUDY, spent: Spend = ROUND, rounds: int = 5) -> None:
    if spent.noise_multiplier:
        ledger.charge(study=study, round=0, task="Describe", people=who, spend=RELEASE, budget=UNLIMITED)
    for k in range(1, rounds + 1):
        ledger.charge(study=study, round=k, task="Train", people=who, spend=spent, budget=UNLIMITED)


def summed(site: Path, budget: BudgetConfig = BUDGET) -> Summary:
    ledger = opened(site)
    try:
        return summary(ledger, budget, "centre_a", {STUDY: "A tiny study of frailty"})
    finally:
        ledger.close()


@pytest.fixture
def spent(site: Path) -> Path:
    """A study of twelve people, of whom eight are in a second one; one round of the first was repeated."""
    ledger, who = opened(site), people(site)
    spend(ledger, who)
    ledger.charge(study=STUDY, round=5, task="Train", people=who, spend=ROUND, budget=UNLIMITED)
    fewer = PersonSet.of(sorted(who.ids)[:8], who.listed, who.tables)
    spend(ledger, fewer, OTHER, Spend(15.0, 0.1, 2), rounds=3)
    ledger.close()
    return site


# ---- the figures -----------------------------------------------------------------------------------------------------


def test_the_figure_is_of_whoever_has_spent_most_over_all_studies(spent: Path) -> None:
    found = summed(spent)
    first = [RELEASE, *[ROUND] * 6]
    second = [RELEASE, *[Spend(15.0, 0.1, 2)] * 3]
    assert found.epsilon == epsilon([*first, *second], 1e-5, "rdp")
    assert [s.epsilon for s in found.studies] == [epsilon(first, 1e-5, "rdp"), epsilon(second, 1e-5, "rdp")]
    assert (found.worst_people, found.people, found.in_doubt) == (8, 12, 0)
    assert [s.people for s in found.studies] == [12, 8]


def test_a_budget_is_read_by_the_hospitals_own_delta_and_accountant(spent: Path) -> None:
    strict = BudgetConfig(delta=1e-7, accountant="prv")
    assert summed(spent, strict).epsilon > summed(spent, BudgetConfig(delta=1e-5, accountant="prv")).epsilon


def test_rounds_that_were_charged_alike_are_one_line(spent: Path) -> None:
    parts = [(p.words, p.facts) for s in summed(spent).studies for p in s.parts]
    assert parts == [
        ("Describe, 1 answer", "noise 30"),
        ("Train, rounds 1 to 5, 1 of them repeated", "2 steps a round, noise 12, everybody in each"),
        ("Describe, 1 answer", "noise 30"),
        ("Train, rounds 1 to 3", "2 steps a round, noise 15, each person in one of 10"),
    ]


def test_the_curve_ends_at_the_figure_and_never_falls(spent: Path) -> None:
    found = summed(spent)
    curve = [p.lifetime for p in found.points]
    assert curve[-1] == found.epsilon
    assert curve == sorted(curve)
    assert [p.of_study for p in found.points if p.study == STUDY][-1] == found.studies[0].epsilon


def test_what_was_spent_and_what_is_left_are_said(spent: Path) -> None:
    said = dict(figures(summed(spent)))
    value = summed(spent).epsilon
    assert said["spent"] == f"epsilon {value:.3f}; 8 participants of 12 who were charged have spent the most"
    assert said["left"] == f"epsilon {8 - value:.3f}"
    assert said["limits"].startswith("epsilon 8 in a lifetime, epsilon 4 in one study; at delta 1e-05, accountant rdp")


def test_training_without_protection_is_said_in_plain_words(site: Path) -> None:
    ledger = opened(site)
    spend(ledger, people(site), spent=UNPROTECTED)
    ledger.close()
    found = summed(site)
    assert found.epsilon == math.inf
    text = "\n".join(lines(found))
    assert "spent   without protection: no epsilon holds; 12 participants of 12" in text
    assert "left    nothing, for those who were trained on without protection" in text
    assert "Train, rounds 1 to 5: without protection" in text
    assert "nothing limits mathematically" in text
    assert "inf" not in re.findall(r"[a-z]+", text)
    for drawn in (page(found), picture(found)):
        assert drawn


# ---- people ----------------------------------------------------------------------------------------------------------


def test_a_replaced_table_is_said_and_settled_with_one_option(spent: Path) -> None:
    """Two people join; they are in doubt until the hospital says who they are."""
    table = spent.parent / "data" / "participants.csv"
    rows = read_csv(table)
    write_rows(table, [*rows, {**rows[0], "participant_id": "N1"}, {**rows[1], "participant_id": "N2"}])
    ledger = opened(spent)
    spend(ledger, people(spent, 26), rounds=1)
    ledger.close()
    found = summed(spent)
    assert found.in_doubt == 2
    assert "participants.csv is another file than before: 26 participants, 24 known" in found.changes[0]
    assert "--new-participants" in "\n".join(lines(found))
    said = told(spent, new=True, by="Dr. Example")
    assert said[-1] == "written down: Dr. Example says that 2 participants were never charged here under another name"
    assert any("Dr. Example wrote down that 2 participants in doubt are new" in line for line in said)
    assert summed(spent).in_doubt == 0
    assert told(spent, new=True)[-1] == "nobody is in doubt: nothing was written down"


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command_shows_it_all(spent: Path, tmp_path: Path) -> None:
    code, said = run("budget", spent, "--plot", tmp_path / "out" / "p.png", "--html", tmp_path / "out" / "p.html")
    assert code == 0, said
    assert said.startswith("SYNTHETIC  centre_a: privacy spent, by the ledger")
    for words in (
        "spent   epsilon",
        "left    epsilon",
        "What this does not cover",
        "every row of the ledger was checked",
    ):
        assert words in said
    assert (tmp_path / "out" / "p.png").exists()
    assert "SYNTHETIC" in (tmp_path / "out" / "p.html").read_text(encoding="utf-8")


def test_nothing_but_the_ledger_is_needed(spent: Path) -> None:
    """The data may be on another disk, and the study may be over and its file gone."""
    for file in (spent.parent / "data").iterdir():
        file.unlink()
    (spent.parent / "study.toml").unlink()
    assert any(line.startswith("spent   epsilon") for line in told(spent))


def test_a_hospital_that_spent_nothing_is_told_so(site: Path) -> None:
    said = told(site)
    assert "nothing was ever spent here" in said[0]
    assert not (site.parent / "state").exists(), "looking makes no ledger"


def test_of_a_hospital_that_spent_nothing_no_page_is_written_and_it_is_said(site: Path, tmp_path: Path) -> None:
    plot, html = tmp_path / "out" / "curve.png", tmp_path / "out" / "page.html"
    said = told(site, plot=plot, html=html)
    assert said[-2:] == [f"not written: {path}: nothing was spent yet" for path in (plot, html)]
    assert not plot.parent.exists()


@pytest.mark.parametrize(("lifetime", "kind"), [(2.0, "may-join"), (1.01, "little-left"), ("unlimited", "may-join")])
def test_a_budget_of_which_hardly_anything_is_left_is_not_green(spent: Path, lifetime: float | str, kind: str) -> None:
    found = summary(opened(spent), BUDGET, "centre_a", {}, over_time=True)
    limit = lifetime if isinstance(lifetime, str) else found.epsilon * lifetime
    shown = page(replace(found, budget=BUDGET.model_copy(update={"lifetime_epsilon": limit})))
    assert f'class="verdict {kind}"' in shown


def test_a_ledger_that_was_taken_away_is_missed(spent: Path) -> None:
    (spent.parent / "state" / FILE).unlink()
    with pytest.raises(ChainBroken, match="is missing"):
        told(spent)


def test_a_cut_ledger_is_found_by_the_audit_log(spent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from client import budget

    ledger = opened(spent)
    n = int(ledger.head.partition(":")[0])
    ledger.close()
    monkeypatch.setattr(budget, "heads_kept", lambda _audit: [f"{n + 1}:{'0' * 64}"])
    with pytest.raises(ChainBroken, match=f"row {n + 1} is not the one"):
        told(spent)


def test_a_tampered_ledger_is_refused_in_a_sentence(spent: Path) -> None:
    (spent.parent / "state" / "ledger.key").write_text("", encoding="utf-8")
    code, said = run("budget", spent)
    assert code == 1
    assert "restore it from a backup" in " ".join(said.split())


def test_a_page_that_cannot_be_written_is_said(spent: Path) -> None:
    with pytest.raises(ConfigError, match="name a file in a folder"):
        told(spent, html=spent / "no" / "folder.html")


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


# ---- the page and the picture ----------------------------------------------------------------------------------------


def test_the_page_asks_nobody_for_anything_and_names_nobody(spent: Path) -> None:
    text = page(summed(spent))
    assert "http" not in text.replace("http-equiv", "")
    assert "default-src 'none'" in text
    names = [row["participant_id"] for row in read_csv(spent.parent / "data" / "participants.csv")]
    assert not [name for name in names if name in text]
    assert "What this does not cover" in text


def test_equal_ledgers_give_equal_pages(spent: Path) -> None:
    assert page(summed(spent)) == page(summed(spent))


def test_a_title_cannot_be_a_script(spent: Path) -> None:
    ledger = opened(spent)
    found = summary(ledger, BUDGET, "<script>", {STUDY: "<img src=x>"})
    ledger.close()
    text = page(found)
    assert "<script>" not in text
    assert "<img src=x>" not in text


def test_the_picture_shows_the_limit_when_it_is_near(spent: Path, tmp_path: Path) -> None:
    """Pixels in the limit's colour lie on one line across the axes; with a limit far above there is no such line."""
    near = BudgetConfig(lifetime_epsilon=1.5 * summed(spent).epsilon, study_epsilon="unlimited", accountant="rdp")
    far = BudgetConfig(lifetime_epsilon=1000.0, study_epsilon="unlimited", accountant="rdp")
    widths = {}
    for name, budget in {"near": near, "far": far}.items():
        (tmp_path / name).write_bytes(picture(summed(spent, budget)))
        pixels = np.asarray(Image.open(tmp_path / name).convert("RGB")).astype(int)
        red = (np.abs(pixels - [0xB3, 0x26, 0x1E]) < 40).all(axis=2)
        widths[name] = int(red.sum(axis=1).max())
    assert widths["near"] > 400
    assert widths["far"] < 100


def test_times_are_days_of_the_ledger(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = opened(site)
    for month in ("02", "05"):
        monkeypatch.setattr(ledger_rows, "_now", lambda month=month: f"2026-{month}-03T09:00:00+00:00")
        spend(ledger, people(site), rounds=1)
    ledger.close()
    (study,) = summed(site).studies
    assert study.when == "2026-02-03 to 2026-05-03"


def test_the_ledgers_notes_hold_counts_only(spent: Path) -> None:
    ledger = opened(spent)
    notes = [json.loads(row.note) for row, _charges in ledger.replay()]
    ledger.close()
    for note in notes:
        for value in note.values():
            assert isinstance(value, int) or re.fullmatch(r"[0-9a-f]{64}", value)
