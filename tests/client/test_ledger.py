"""Spending is written down before it happens, adds up per person, and cannot be made smaller by anybody or anything.

Epsilon of the ledger is compared with one accountant of Opacus that was never interrupted.
"""

import itertools
import json
import math
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from opacus.accountants import PRVAccountant, RDPAccountant

from client.ledger import FILE, BudgetConfig, Charge, Ledger, heads_kept
from client.person_sets import PersonSet
from sarco_models.accounting import UNPROTECTED, Accountant, Spend, epsilon, plan
from sarco_models.chain import Chain
from sarco_models.config import PrivacyConfig, load_config
from sarco_models.errors import BudgetExceeded, ChainBroken, ConfigError, SarcoError
from tests.sites import tables_study

DELTA = 1e-5
ROUND = Spend(6.0, 1.0, 2)
UNLIMITED = BudgetConfig(lifetime_epsilon="unlimited", study_epsilon="unlimited", accountant="rdp")
STUDY, OTHER = "a" * 64, "b" * 64
WARD = [f"P{k:03d}" for k in range(40)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / FILE


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(path)
    yield opened
    opened.close()


def charge(  # noqa: PLR0913 - the facts of a row
    ledger: Ledger,
    people: PersonSet | list[str] = WARD,
    spend: Spend = ROUND,
    *,
    study: str = STUDY,
    round_: int = 1,
    budget: BudgetConfig = UNLIMITED,
    **more: object,
) -> Charge:
    return ledger.charge(
        study=study, round=round_, task="Train", people=people, spend=spend, budget=budget, **more  # type: ignore[arg-type]
    )  # fmt: skip


def limited(lifetime: float = 100.0, study: float = 100.0, accountant: Accountant = "rdp") -> BudgetConfig:
    return BudgetConfig(lifetime_epsilon=lifetime, study_epsilon=study, accountant=accountant)


def cost(*spends: Spend, accountant: Accountant = "rdp") -> float:
    return epsilon(spends, DELTA, accountant)


def spends_in(path: Path) -> int:
    with sqlite3.connect(path) as database:
        return int(database.execute("SELECT count(*) FROM rows WHERE kind = 'spend'").fetchone()[0])


# ---- epsilon is of all rows together ---------------------------------------------------------------------------------


@pytest.mark.parametrize("accountant", ["prv", "rdp"])
def test_epsilon_of_a_ledger_is_that_of_one_uninterrupted_accountant(path: Path, accountant: Accountant) -> None:
    """Two runs of a study and statistics between them, the ledger opened anew for every row: equal to 1e-9."""
    steps = [Spend(8.0, 1.0, 1), *[Spend(5.0, 1.0, 2)] * 3, Spend(8.0, 1.0, 1), *[Spend(5.0, 1.0, 2)] * 4]
    budget = UNLIMITED.model_copy(update={"accountant": accountant})
    found = []
    for k, spend in enumerate(steps):
        opened = Ledger.open(path)
        found.append(charge(opened, spend=spend, round_=k, budget=budget).after)
        opened.close()
    live = PRVAccountant() if accountant == "prv" else RDPAccountant()
    for spend in sorted(steps, key=lambda s: s.noise_multiplier):
        for _ in range(spend.steps):
            live.step(noise_multiplier=spend.noise_multiplier, sample_rate=spend.sample_rate)
    with np.errstate(divide="ignore"):
        assert abs(found[-1] - live.get_epsilon(DELTA)) < 1e-9
    assert all(later > earlier for earlier, later in itertools.pairwise(found)), "it rises over runs"


def test_two_studies_on_the_same_people_add_up(ledger: Ledger) -> None:
    charge(ledger, study=STUDY)
    second = charge(ledger, study=OTHER)
    assert second.before == cost(ROUND)
    assert second.after == cost(ROUND, ROUND) > second.study_after == cost(ROUND)


def test_epsilon_is_counted_person_by_person(ledger: Ledger) -> None:
    """Twenty are in both studies; the others pay for theirs alone, and the hospital's figure is of the worst."""
    everybody = PersonSet.of([], WARD, "tables")
    first = PersonSet.of(WARD[:30], everybody.listed, "tables")
    second = PersonSet.of(WARD[10:], everybody.listed, "tables")
    third = PersonSet.of(WARD[30:], everybody.listed, "tables")
    charge(ledger, first, study=STUDY)
    assert charge(ledger, second, study=OTHER).after == cost(ROUND, ROUND)
    alone = charge(ledger, third, study="c" * 64)
    assert alone.before == cost(ROUND), "these ten were not in the first study"
    assert alone.after == cost(ROUND, ROUND)
    assert sorted((g.people, sum(g.own.values())) for g in ledger.charges.groups()) == [(10, 2), (10, 4), (20, 4)]


def test_statistics_and_training_are_in_one_ledger(ledger: Ledger) -> None:
    private = {"epsilon": 3.0, "delta": DELTA, "accountant": "rdp"}
    study = tables_study(
        training={"local_steps": 1, "balance_classes": False}, federation={"rounds": 6}, privacy=private
    )
    planned = plan(study)
    assert planned.statistics is not None
    done = charge(ledger, spend=planned.statistics, study=study.digest, promise=study.privacy)
    for k in range(6):
        charge(ledger, spend=planned.training, study=study.digest, round_=k + 1, promise=study.privacy)
    done = charge(ledger, spend=planned.statistics, study=study.digest, promise=study.privacy)
    assert 2.99 < done.study_after <= 3.0
    with pytest.raises(BudgetExceeded, match=r"the study itself \(privacy.epsilon .* spare_rounds"):
        charge(ledger, spend=planned.training, study=study.digest, round_=6, promise=study.privacy)


def test_a_round_that_is_repeated_after_a_crash_is_charged_again(ledger: Ledger) -> None:
    charge(ledger, round_=7)
    assert charge(ledger, round_=7).after == cost(ROUND, ROUND)


# ---- limits ----------------------------------------------------------------------------------------------------------


def test_what_is_not_in_site_toml_may_not_be_spent(ledger: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "budget.toml"
    file.write_text("", encoding="utf-8")
    with pytest.raises(BudgetExceeded, match=r"lifetime_epsilon is 0\.000"):
        charge(ledger, budget=load_config(file, BudgetConfig))
    file.write_text('lifetime_epsilon = "unlimited"\n', encoding="utf-8")
    with pytest.raises(BudgetExceeded, match=r"study_epsilon is 0\.000"):
        charge(ledger, budget=load_config(file, BudgetConfig))
    file.write_text('lifetime_epsilon = "none"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="lifetime_epsilon"):
        load_config(file, BudgetConfig)


@pytest.mark.parametrize("accountant", ["prv", "rdp"])
def test_the_round_that_would_cross_a_limit_is_refused_and_leaves_nothing(path: Path, accountant: Accountant) -> None:
    three, four = cost(*[ROUND] * 3, accountant=accountant), cost(*[ROUND] * 4, accountant=accountant)
    for name, budget in {
        "lifetime_epsilon": limited(lifetime=(three + four) / 2, accountant=accountant),
        "study_epsilon": limited(study=(three + four) / 2, accountant=accountant),
    }.items():
        ledger = Ledger.open(path.with_name(f"{name}.sqlite"))
        for k in range(3):
            charge(ledger, round_=k, budget=budget)
        before = ledger.head
        with pytest.raises(BudgetExceeded, match=name) as refused:
            charge(ledger, round_=3, budget=budget)
        assert refused.value.now == pytest.approx(three, abs=1e-3)
        assert refused.value.after == pytest.approx(four, abs=1e-3)
        assert ledger.head == before
        assert charge(ledger, spend=Spend(1000.0, 1.0, 1), budget=budget).after < four, "smaller ones still fit"
        ledger.close()


def test_a_refused_first_charge_leaves_not_even_the_people(ledger: Ledger, path: Path) -> None:
    before = ledger.head
    with pytest.raises(BudgetExceeded):
        charge(ledger, budget=limited(lifetime=0.1))
    assert ledger.head == before
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM members").fetchone() == (0,)


def test_no_study_can_raise_a_limit(ledger: Ledger) -> None:
    with pytest.raises(BudgetExceeded, match="study_epsilon"):
        charge(ledger, budget=limited(study=0.5), max_study_epsilon=20.0)
    with pytest.raises(BudgetExceeded, match=r"max_epsilon .* raise it in site.toml \[policy\]"):
        charge(ledger, budget=limited(), max_study_epsilon=0.5)
    promise = PrivacyConfig(epsilon=20.0, delta=DELTA)
    with pytest.raises(BudgetExceeded, match="lifetime_epsilon"):
        charge(ledger, budget=limited(lifetime=0.5), promise=promise)


def test_the_limit_of_a_study_is_of_that_study_alone(ledger: Ledger) -> None:
    budget = limited(study=1.01 * cost(ROUND))
    for study in (STUDY, OTHER, "c" * 64):
        charge(ledger, study=study, budget=budget)
    with pytest.raises(BudgetExceeded, match="study_epsilon"):
        charge(ledger, study=OTHER, budget=budget)


def test_a_limit_holds_for_those_who_are_charged(ledger: Ledger) -> None:
    listed = PersonSet.of([], WARD, "t").listed
    spent, fresh = PersonSet.of(WARD[:20], listed, "t"), PersonSet.of(WARD[20:], listed, "t")
    budget = limited(lifetime=1.01 * cost(ROUND))
    charge(ledger, spent, budget=budget)
    charge(ledger, fresh, study=OTHER, budget=budget)
    with pytest.raises(BudgetExceeded):
        charge(ledger, PersonSet.of([WARD[0]], listed, "t"), study="c" * 64, budget=budget)


def test_training_without_protection_is_beyond_every_limit(ledger: Ledger) -> None:
    with pytest.raises(BudgetExceeded, match="to inf"):
        charge(ledger, spend=UNPROTECTED, budget=limited())
    assert charge(ledger, spend=UNPROTECTED).after == math.inf
    with pytest.raises(BudgetExceeded, match="from inf"):
        charge(ledger, study=OTHER, spend=Spend(1e6, 1.0, 1), budget=limited())


def test_nobody_cannot_be_charged(ledger: Ledger) -> None:
    """A spend of nobody would hide what was done with somebody."""
    before = ledger.head
    with pytest.raises(ValueError, match="nobody"):
        charge(ledger, [])
    assert ledger.head == before


def test_every_commit_waits_for_the_disk(ledger: Ledger) -> None:
    database = ledger._rows._database
    assert database.execute("PRAGMA synchronous").fetchone() == (2,), "FULL"
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    charge(ledger)
    assert not database.in_transaction


def test_a_projection_says_what_would_be_and_writes_nothing(ledger: Ledger) -> None:
    charge(ledger)
    before = ledger.head
    told = ledger.project(study=OTHER, people=PersonSet.of(["new", *WARD]), spends=[ROUND] * 5, budget=UNLIMITED)
    assert (told.before, told.after) == (cost(ROUND), cost(*[ROUND] * 6))
    assert told.study_after == cost(*[ROUND] * 5)
    assert ledger.head == before


# ---- people under other names ----------------------------------------------------------------------------------------


def test_a_replaced_table_does_not_begin_at_nothing(ledger: Ledger) -> None:
    """The same people under new identifiers would otherwise have a fresh budget."""
    charge(ledger, PersonSet.of(WARD, WARD, "old tables"))
    renamed = PersonSet.of([f"X{k}" for k in range(40)], tables="new tables")
    found = charge(ledger, renamed, study=OTHER)
    assert found.in_doubt == 40
    assert found.before == cost(ROUND)
    assert found.after == cost(ROUND, ROUND)


def test_who_is_in_doubt_is_charged_as_the_worst_of_those_known(ledger: Ledger) -> None:
    listed = PersonSet.of([], WARD, "old").listed
    charge(ledger, PersonSet.of(WARD, listed, "old"), Spend(20.0, 1.0, 1))
    charge(ledger, PersonSet.of(WARD[:5], listed, "old"), Spend(4.0, 1.0, 3))
    found = charge(ledger, PersonSet.of(["new"], tables="new"), ROUND)
    assert found.after == cost(Spend(20.0, 1.0, 1), Spend(4.0, 1.0, 3), ROUND)
    assert charge(ledger, PersonSet.of(["new"], tables="new"), ROUND).after == cost(
        Spend(20.0, 1.0, 1), Spend(4.0, 1.0, 3), ROUND, ROUND
    ), "and stays so"


def test_doubt_ends_when_the_hospital_says_who_they_are(path: Path) -> None:
    ledger = Ledger.open(path)
    charge(ledger, PersonSet.of(WARD, tables="old"))
    new = PersonSet.of([*WARD, "N1", "N2"], tables="new")
    assert charge(ledger, new, budget=UNLIMITED).in_doubt == 2
    assert ledger.acknowledge(new, by="Dr. Example") == 2
    assert ledger.acknowledge(new, by="Dr. Example") == 0, "once is enough"
    ledger.close()
    ledger = Ledger.open(path)
    alone = charge(ledger, PersonSet.of(["N1", "N2"], new.listed, "new"), study=OTHER)
    assert alone.in_doubt == 0
    assert alone.before == cost(ROUND), "their own round only"
    rows = [row for row, _charges in ledger.replay()]
    assert [json.loads(r.note)["by"] for r in rows if r.kind == "acknowledged"] == ["Dr. Example"]
    later = charge(ledger, PersonSet.of([*WARD, "N1", "N2", "N3"], tables="newer"))
    assert later.in_doubt == 1, "said of those who were there, not of everybody to come"
    ledger.close()


def test_new_people_can_be_acknowledged_before_anything_is_charged(ledger: Ledger) -> None:
    charge(ledger, PersonSet.of(WARD, tables="old"), budget=limited(lifetime=1.01 * cost(ROUND)))
    new = PersonSet.of(["N1", "N2"], tables="new")
    with pytest.raises(BudgetExceeded):
        charge(ledger, new, budget=limited(lifetime=1.01 * cost(ROUND)))
    ledger.acknowledge(new, by="Dr. Example")
    charge(ledger, new, budget=limited(lifetime=1.01 * cost(ROUND)))


def test_people_of_the_same_tables_who_were_not_charged_yet_are_new(ledger: Ledger) -> None:
    """Another study splits the same tables otherwise: who was in nobody's training set has spent nothing."""
    charge(ledger, PersonSet.of(WARD[:20], WARD, "tables"))
    assert charge(ledger, PersonSet.of(WARD[20:], WARD, "tables"), study=OTHER).after == cost(ROUND)


def test_a_corrected_value_puts_nobody_in_doubt(ledger: Ledger) -> None:
    """The file is another one, its people are not."""
    charge(ledger, PersonSet.of(WARD[:20], WARD, "tables"))
    assert charge(ledger, PersonSet.of(WARD, WARD, "corrected tables")).in_doubt == 0


def test_a_ledger_that_was_never_spent_from_doubts_nobody(ledger: Ledger) -> None:
    ledger.acknowledge(PersonSet.of(WARD, tables="old"), by="x")
    assert charge(ledger, PersonSet.of(["somebody"], tables="new")).in_doubt == 0


def test_no_identifier_is_in_the_file(ledger: Ledger, path: Path) -> None:
    charge(ledger, ["Jane-Example-1948", "John-Example-1951"])
    ledger.close()
    for file in path.parent.iterdir():
        assert b"Example" not in file.read_bytes()
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0 or file.suffix == ".lock"


# ---- a ledger is only added to ---------------------------------------------------------------------------------------


@pytest.fixture
def spent(path: Path) -> Path:
    """A ledger of six rows, closed: begin, people, four spends."""
    ledger = Ledger.open(path)
    for k in range(4):
        charge(ledger, round_=k)
    ledger.close()
    return path


def test_rows_cannot_be_changed_through_the_front_door(spent: Path) -> None:
    with sqlite3.connect(spent) as database:
        for statement in (
            "UPDATE rows SET steps = 1", "DELETE FROM rows", "UPDATE members SET people = ''", "DELETE FROM members",
            "INSERT INTO rows SELECT n + 7, kind, at, study, round, task, people, noise_multiplier, sample_rate, steps,"
            " note, previous, hash FROM rows WHERE n = 1",
        ):  # fmt: skip
            with pytest.raises(sqlite3.IntegrityError):
                database.execute(statement)


TAMPERED: dict[str, tuple[str, str]] = {
    "less noise was more": ("UPDATE rows SET noise_multiplier = 60.0 WHERE n = 4", "row 4"),
    "fewer steps": ("UPDATE rows SET steps = 1 WHERE n = 5", "row 5"),
    "another study": ("UPDATE rows SET study = 'c' WHERE n = 3", "row 3"),
    "other people": ("UPDATE rows SET people = 'c' WHERE n = 3", "row 3"),
    "another time": ("UPDATE rows SET at = '2020-01-01T00:00:00+00:00' WHERE n = 3", "row 3"),
    "a row dropped": ("DELETE FROM rows WHERE n = 4", "row 4"),
    "a row dropped and the rest renumbered": (
        "DELETE FROM rows WHERE n = 4; UPDATE rows SET n = n - 1 WHERE n > 4", "row 4",
    ),
    "two rows exchanged": (
        "UPDATE rows SET n = 99 WHERE n = 4; UPDATE rows SET n = 4 WHERE n = 5; UPDATE rows SET n = 5 WHERE n = 99",
        "row 4",
    ),
    "a row twice": (
        "INSERT INTO rows SELECT 7, kind, at, study, round, task, people, noise_multiplier, sample_rate, steps, note,"
        " previous, hash FROM rows WHERE n = 6", "row 7",
    ),
    "a person taken out of a set": ("DELETE FROM members WHERE token = (SELECT max(token) FROM members)", "row 2"),
    "a person put into a set": ("INSERT INTO members SELECT people, x'00' FROM members LIMIT 1", "row 2"),
}  # fmt: skip


@pytest.mark.parametrize(("statement", "named"), TAMPERED.values(), ids=TAMPERED.keys())
def test_what_was_tampered_with_is_found_and_named(spent: Path, statement: str, named: str) -> None:
    tamper(spent, statement)
    with pytest.raises(ChainBroken, match=named):
        Ledger.open(spent)


def test_tampering_while_it_is_open_is_found_too(spent: Path) -> None:
    ledger = Ledger.open(spent)
    tamper(spent, "UPDATE rows SET steps = 1 WHERE n = 3")
    with pytest.raises(ChainBroken, match="row 3"):
        ledger.verify()
    ledger.close()


def test_a_tail_that_was_cut_off_is_found_by_a_head_that_was_kept_elsewhere(spent: Path) -> None:
    ledger = Ledger.open(spent)
    kept = ledger.head
    assert ledger.verify([kept]) == 6
    ledger.close()
    tamper(spent, "DELETE FROM rows WHERE n > 4")
    ledger = Ledger.open(spent)  # by itself it cannot know
    with pytest.raises(ChainBroken, match="row 6 is not the one that was kept elsewhere"):
        ledger.verify([kept])
    charge(ledger)
    charge(ledger)
    with pytest.raises(ChainBroken, match="row 6"):
        ledger.verify([kept])
    ledger.close()


def test_the_audit_log_misses_a_ledger_that_was_begun_anew(spent: Path) -> None:
    """Ledger and key gone together would look like a hospital that has never spent anything."""
    audit = Chain(spent.with_name("audit.jsonl"))
    ledger = Ledger.open(spent)
    for k in range(2):
        audit.append("spend", {"study": STUDY, "ledger": charge(ledger, round_=k).head})
        audit.append("reply", {"study": STUDY})
    ledger.close()
    assert len(heads_kept(audit.path)) == 2
    Ledger.open(spent, heads_kept(audit.path)).close()
    for file in (spent, spent.with_suffix(".key")):
        file.unlink()
    with pytest.raises(ChainBroken, match="has seen 2 spends"):
        Ledger.open(spent, heads_kept(audit.path))
    assert not spent.exists(), "none is begun in its place"
    charge(Ledger.open(spent))
    with pytest.raises(ChainBroken, match="kept elsewhere"):
        Ledger.open(spent, heads_kept(audit.path))
    assert heads_kept(spent.with_name("nowhere.jsonl")) == ()


def test_the_guards_are_looked_for(spent: Path) -> None:
    tamper(spent, "SELECT 1", restore=False)
    ledger = Ledger.open(spent)
    with pytest.raises(ChainBroken, match="guards"):
        ledger.verify()
    ledger.close()


def tamper(path: Path, statements: str, *, restore: bool = True) -> None:
    """As somebody does who has the file: drops the guards first and puts them back."""
    with sqlite3.connect(path) as database:
        guards = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _sql in guards:
            database.execute(f"DROP TRIGGER {name}")
        database.executescript(statements)
        for _name, sql in guards if restore else ():
            database.execute(sql)
    database.close()


# ---- files that are gone or damaged ----------------------------------------------------------------------------------


def test_a_damaged_file_is_said_to_be_damaged(spent: Path) -> None:
    content = bytearray(spent.read_bytes())
    content[0:200] = os.urandom(200)
    spent.write_bytes(bytes(content))
    with pytest.raises(ChainBroken, match="is damaged"):
        Ledger.open(spent)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_file_that_was_cut_is_damaged(spent: Path, share: float) -> None:
    os.truncate(spent, int(share * spent.stat().st_size))
    with pytest.raises(ChainBroken):
        Ledger.open(spent).verify()


@pytest.mark.parametrize(("ending", "said"), [(".sqlite", "is missing"), (".key", "absent or damaged")])
def test_a_ledger_and_its_key_go_together(spent: Path, ending: str, said: str) -> None:
    spent.with_suffix(ending).unlink()
    with pytest.raises(ChainBroken, match=said):
        Ledger.open(spent)


def test_the_key_of_another_ledger_is_refused(spent: Path, tmp_path: Path) -> None:
    Ledger.open(tmp_path / "other" / FILE).close()
    spent.with_suffix(".key").write_text((tmp_path / "other" / "ledger.key").read_text())
    with pytest.raises(ChainBroken, match="not the key"):
        Ledger.open(spent)


def test_a_beginning_that_was_interrupted_is_mended(path: Path) -> None:
    """Killed after the ledger got its name, and before its key did."""
    Ledger.open(path).close()
    key = path.with_suffix(".key").read_bytes()
    path.with_suffix(".key").rename(path.with_suffix(".key-new"))
    ledger = Ledger.open(path)
    charge(ledger)
    assert ledger.verify() == 3
    ledger.close()
    assert path.with_suffix(".key").read_bytes() == key


def test_a_beginning_that_was_interrupted_earlier_is_begun_again(path: Path) -> None:
    """Killed while the new file was written: nothing has the ledger's name yet, and nothing was spent."""
    Ledger.open(path).close()
    path.rename(path.with_suffix(".begun"))
    path.with_suffix(".key").rename(path.with_suffix(".key-new"))
    ledger = Ledger.open(path)
    charge(ledger)
    assert ledger.verify() == 3
    ledger.close()
    assert not path.with_suffix(".begun").exists()


def test_a_disk_that_is_full_means_that_nothing_happens(ledger: Ledger, path: Path) -> None:
    charge(ledger)
    ledger._rows._database.execute("PRAGMA max_page_count = 1")
    with pytest.raises(SarcoError, match="nothing was spent"):
        charge(ledger, [f"another{k}" for k in range(20000)])
    assert ledger.verify() == len([*ledger.replay()])


# ---- several processes, and crashes ----------------------------------------------------------------------------------

CHARGE = """
import sys
from pathlib import Path
from client.ledger import BudgetConfig, Ledger
from sarco_models.accounting import Spend, epsilon
from sarco_models.errors import BudgetExceeded
ledger = Ledger.open(Path(sys.argv[1]))
limit = "unlimited" if sys.argv[2] == "inf" else float(sys.argv[2])
if limit != "unlimited":
    epsilon([Spend(60.0, 1.0, 1)], 1e-5, "rdp")  # so that both begin at once
budget = BudgetConfig(lifetime_epsilon=limit, study_epsilon="unlimited", accountant="rdp")
print("ready", flush=True)
sys.stdin.readline()
for k in range(1, 100000):
    try:
        ledger.charge(study="a" * 64, round=k, task="Train", people=[f"P{j:03d}" for j in range(40)],
                      spend=Spend(60.0, 1.0, 1), budget=budget)
    except BudgetExceeded:
        break
    print("training", flush=True)
"""


def charging(path: Path, limit: float) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", CHARGE, str(path), str(limit)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip


def begin(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


@pytest.mark.slow
def test_two_processes_at_once_cannot_both_pass_a_limit(path: Path) -> None:
    limit = 1.0
    most = next(k for k in range(1, 1000) if cost(Spend(60.0, 1.0, k + 1)) > limit)
    processes = [charging(path, limit) for _ in range(2)]
    begin(processes)
    done = [process.communicate(timeout=60)[0].count("training") for process in processes]
    assert sum(done) == most == spends_in(path)
    Ledger.open(path).verify()


@pytest.mark.slow
def test_a_process_killed_at_any_point_hides_no_spending(path: Path) -> None:
    """Whatever began to train is in the ledger, which opens and goes on, after each of six kills."""
    rng, trained = np.random.default_rng(1), 0
    for _ in range(6):
        process = charging(path, math.inf)
        begin([process])
        time.sleep(float(rng.uniform(0.02, 0.3)))
        process.send_signal(signal.SIGKILL)
        trained += process.communicate(timeout=60)[0].count("training")
        ledger = Ledger.open(path)
        assert spends_in(path) >= trained
        ledger.verify()
        ledger.close()
    assert trained > 0
    assert spends_in(path) <= trained + 6, "each kill may waste the one row that was not trained on"


# ---- it must not be felt ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spend", "budget", "most_ms"),
    [(UNPROTECTED, UNLIMITED, 5.0), (Spend(30.0, 1.0, 1), limited(), 20.0)],
    ids=["plain", "private"],
)
def test_a_charge_takes_no_time_that_matters(
    ledger: Ledger, spend: Spend, budget: BudgetConfig, most_ms: float
) -> None:
    """The processor's time, not the clock's, of forty rounds of a study of 500 people after the first."""
    people = PersonSet.of(map(str, range(500)), map(str, range(800)), "tables")
    charge(ledger, people, spend, budget=budget)
    start = time.thread_time()
    for k in range(40):
        charge(ledger, people, spend, round_=k, budget=budget)
    assert (time.thread_time() - start) / 40 * 1e3 < most_ms
