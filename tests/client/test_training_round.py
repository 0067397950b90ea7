"""What a hospital sends up in each of a study's encodings, what it keeps of it, and what it sends when asked again."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from client import training_round
from client.audit import FILE as AUDIT
from client.workspace import Site, open_site
from sarco_models.chain import read
from sarco_models.encoding import Shortened, shorten
from sarco_models.model_down import shorter
from sarco_models.parameters import Parameters
from sarco_models.payload import digest_of
from sarco_models.privacy import Privatize
from sarco_models.secret import Secret
from sarco_models.wire import Code, Refused, Setup, Train, Trained, Updated, expanded, from_bytes, to_bytes
from tests.client.hospitals import PRIVACY, answer, hospital, requests
from tests.client.test_kept import files_of_at_most
from tests.sites import tables_study

ROUNDED = ("bf16", "int8")
FORMS = [("float32", "zstd"), ("bf16", "none"), ("bf16", "zstd"), ("int8", "none"), ("int8", "zstd")]


def encoded(folder: Path, encoding: str = "int8", compression: str = "none", **changes: Any) -> Site:
    federation = {"min_sites": 3, "rounds": 8, "encoding": encoding, "compression": compression}
    site = hospital(folder, tables_study(federation=federation, **changes))
    answer(site, first(site)[0])
    return site


def first(site: Site) -> tuple[Setup, Train]:
    asked = requests(site)
    setup, train = asked["Setup"], asked["Train"]
    assert isinstance(setup, Setup)
    assert isinstance(train, Train)
    return setup, train


def play(site: Site, request: Train, rounds: int) -> list[Updated]:
    """Rounds of a federation of this hospital alone."""
    replies = []
    for round_ in range(1, rounds + 1):
        request = replace(request, round=round_)
        replies.append(answer(site, request))
        request = replace(request, parameters=expanded(replies[-1], request.parameters).parameters)
    return replies


def owed_files(site: Site) -> list[str]:
    return sorted(path.name.rpartition("-")[2] for path in site.state.glob("owed-*"))


# ---- what leaves -----------------------------------------------------------------------------------------------------


def test_without_an_encoding_the_parameters_themselves_travel_and_nothing_is_kept(tmp_path: Path) -> None:
    site = encoded(tmp_path, "float32")
    assert isinstance(answer(site, first(site)[1]), Trained)
    assert owed_files(site) == []


@pytest.mark.parametrize(("encoding", "compression"), FORMS)
def test_what_leaves_is_the_update_in_the_study_s_form(tmp_path: Path, encoding: str, compression: str) -> None:
    plain, site = encoded(tmp_path / "plain", "float32"), encoded(tmp_path / "short", encoding, compression)
    trained, reply = (answer(s, first(s)[1]) for s in (plain, site))
    request = first(site)[1]
    assert isinstance(reply, Updated)
    short = shorten(trained.parameters, request.parameters, encoding=encoding, compress=compression == "zstd")
    assert reply.update.body.tobytes() == short.update.body.tobytes()
    assert (reply.participants, dict(reply.metrics)) == (trained.participants, dict(trained.metrics))
    if encoding == "float32":
        assert expanded(reply, request.parameters).parameters.digest == trained.parameters.digest


def test_the_audit_has_names_and_bytes_of_what_really_left(tmp_path: Path) -> None:
    site = encoded(tmp_path)
    reply = answer(site, first(site)[1])
    line = [e.facts for e in training_lines(site) if e.facts.get("reply") == "Updated"]
    assert len(line) == 1
    assert line[0]["payload"] == digest_of(reply)
    assert line[0]["bytes"] < 0.5 * 4 * sum(reply.update.manifest.sizes) + 200
    assert f"update.{reply.update.manifest.names[0]}" in line[0]["names"]  # type: ignore[operator]


def training_lines(site: Site) -> list[Any]:
    return list(read(site.state / AUDIT))


def test_the_policy_counts_the_bytes_that_travel(tmp_path: Path) -> None:
    site = encoded(tmp_path)
    reply = answer(site, first(site)[1])
    real = len(reply.update.body)
    site.policy = site.policy.model_copy(update={"max_parameter_bytes": real})
    assert isinstance(answer(site, first(site)[1]), Updated)
    site.policy = site.policy.model_copy(update={"max_parameter_bytes": real - 1})
    assert answer(site, first(site)[1]) == Refused("alpha", Code.UPDATE_TOO_LARGE)


# ---- what is kept ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ROUNDED)
def test_what_rounding_left_is_added_to_the_next_update(
    tmp_path: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, seen = encoded(tmp_path, encoding), watch(monkeypatch)
    play(site, first(site)[1], 3)
    assert seen[0].owed is None
    for before, after in pairwise(seen):
        assert before.short.left is not None
        assert after.owed is not None
        assert after.owed.tobytes() == before.short.left.tobytes()


class Seen:
    """One call of the encoder."""

    def __init__(self, after: Parameters, before: Parameters, owed: NDArray[np.float32] | None, **form: Any) -> None:
        self.after, self.before, self.owed = after, before, owed
        self.short: Shortened = shorten(after, before, owed, **form)


def watch(monkeypatch: pytest.MonkeyPatch) -> list[Seen]:
    seen: list[Seen] = []

    def spy(*given: Any, **form: Any) -> Shortened:
        seen.append(Seen(*given, **form))
        return seen[-1].short

    monkeypatch.setattr(training_round, "shorten", spy)
    return seen


@pytest.mark.parametrize("encoding", ROUNDED)
def test_a_round_that_is_asked_for_again_leaves_the_same_bytes_also_from_a_new_process(
    tmp_path: Path, encoding: str
) -> None:
    """A coordinator that was killed goes on from the last complete round, or from the one before."""
    site = encoded(tmp_path, encoding)
    request = first(site)[1]
    replies = play(site, request, 4)
    again = play(site, request, 4)
    later = play(open_site(tmp_path / "site.toml"), request, 4)
    assert [digest_of(r) for r in again] == [digest_of(r) for r in replies]
    assert [digest_of(r) for r in later] == [digest_of(r) for r in replies]
    third = replace(request, round=3, parameters=model_after(replies[:2], request))
    assert digest_of(answer(open_site(tmp_path / "site.toml"), third)) == digest_of(replies[2])


def model_after(replies: list[Updated], request: Train) -> Parameters:
    model = request.parameters
    for reply in replies:
        model = expanded(reply, model).parameters
    return model


def test_a_hospital_that_missed_rounds_uses_the_latest_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, seen = encoded(tmp_path), watch(monkeypatch)
    request = first(site)[1]
    play(site, request, 2)
    answer(site, replace(request, round=7))
    assert seen[1].short.left is not None
    assert seen[2].owed is not None
    assert seen[2].owed.tobytes() == seen[1].short.left.tobytes()


def test_only_the_last_rounds_are_kept_and_none_of_a_later_run(tmp_path: Path) -> None:
    site = encoded(tmp_path)
    request = first(site)[1]
    play(site, request, 6)
    assert owed_files(site) == [f"{k}.safetensors" for k in (3, 4, 5, 6)]
    answer(site, request)
    assert owed_files(site) == ["1.safetensors"], "what a run that was given up had left is not of this one"


def test_another_setup_begins_with_nothing_owed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, seen = encoded(tmp_path), watch(monkeypatch)
    setup, request = first(site)
    play(site, request, 2)
    moments = replace(setup.moments, count=setup.moments.count + 1)
    for _ in range(2):  # the setup before the last is forgotten, with all that was kept for it
        setup = replace(setup, moments=replace(moments, count=moments.count + 1))
        moments = setup.moments
        answer(site, setup)
    answer(site, replace(request, setup=setup.digest, round=2))
    assert seen[-1].owed is None
    assert len(owed_files(site)) == 1


def test_a_damaged_file_costs_what_was_owed_and_not_the_round(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site = encoded(tmp_path)
    request = first(site)[1]
    play(site, request, 1)
    (path,) = site.state.glob("owed-*")
    path.write_bytes(path.read_bytes()[:40])
    assert isinstance(answer(site, replace(request, round=2)), Updated)
    assert "what rounding left of earlier updates is lost" in caplog.text


def test_an_update_that_is_not_finite_leaves_as_such_and_nothing_of_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = encoded(tmp_path)
    request = first(site)[1]
    sound = shorten

    def diverged(after: Parameters, *rest: Any, **form: Any) -> Shortened:
        broken = after.vector.copy()
        broken[0] = np.nan
        return sound(Parameters(after.manifest, broken), *rest, **form)

    monkeypatch.setattr(training_round, "shorten", diverged)
    reply = answer(site, request)
    assert not np.isfinite(expanded(reply, request.parameters).parameters.vector).all()
    assert owed_files(site) == []


# ---- with differential privacy ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ROUNDED)
def test_the_encoder_of_a_private_round_sees_the_noised_update_and_nothing_else(tmp_path: Path, encoding: str) -> None:
    """The same draws of noise: then the same noised update, of which the reply is a function, and the same charge."""
    plain, site = encoded(tmp_path / "plain", "float32", **PRIVACY), encoded(tmp_path / "short", encoding, **PRIVACY)
    request, owed = first(site)[1], None
    for round_ in (1, 2):
        for s in (plain, site):
            s.secret = Secret(round_)
        down = {"round": round_, "parameters": request.parameters}
        trained, reply = (answer(s, replace(first(s)[1], **down)) for s in (plain, site))
        short = shorten(trained.parameters, request.parameters, owed, encoding=encoding)
        assert reply.update.body.tobytes() == short.update.body.tobytes()
        request, owed = replace(request, parameters=trained.parameters), short.left
    assert charged(site) == charged(plain)


def charged(site: Site) -> list[tuple[int, str, object]]:
    return [(r.round, r.task, (r.noise_multiplier, r.sample_rate, r.steps)) for r, _ in site.ledger.replay()]


def test_a_private_round_that_is_asked_for_again_is_neither_trained_nor_paid_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = encoded(tmp_path, "int8", "zstd", **PRIVACY)
    request = first(site)[1]
    reply = answer(site, request)
    head = site.ledger.head

    def never(*_: Any) -> Privatize:
        raise AssertionError("trained again")

    monkeypatch.setattr(training_round, "privatize", never)
    for s in (site, open_site(tmp_path / "site.toml")):
        assert digest_of(answer(s, request)) == digest_of(reply)
    assert site.ledger.head == head


@pytest.mark.parametrize("what", ["Describe", "Train", "Evaluate"])
def test_on_a_full_disk_nothing_is_paid_and_with_room_it_is_paid_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """The charge is a small row, and fits; the answer to it is large: paid, and not kept, it would be paid again."""
    statistics = {"privacy": {**PRIVACY["privacy"], "statistics": "private"}}
    site = encoded(tmp_path, "int8", **{**PRIVACY, **statistics})
    request = requests(site)[what]
    if what == "Evaluate":
        site.secret = Secret(1)  # under other noise there may be too few cases for a histogram
        assert answer(site, requests(site)["Describe"]).training_positive >= 3
    before = paid(site)
    with files_of_at_most(600_000):
        for _ in range(3):
            assert answer(site, request) == Refused("alpha", Code.INTERNAL)
    assert paid(site) == before
    assert "nothing was charged: make room" in caplog.text
    for _ in range(2):
        assert not isinstance(answer(site, request), Refused)
    assert paid(site) == before + 1
    assert not list(site.state.glob("*.partial"))


def paid(site: Site) -> int:
    return sum(row.kind == "spend" for row, _ in site.ledger.replay())


def test_what_a_killed_process_left_half_written_goes_with_the_next_setup(tmp_path: Path) -> None:
    site = encoded(tmp_path, "int8", **PRIVACY)
    for name in ("kept-train-0-1-2.7.partial", "clip-0.7.partial", "owed-0-1.partial"):
        (site.state / name).write_bytes(b"half")
    answer(site, first(site)[0])
    assert not list(site.state.glob("*.partial"))


def test_a_kept_answer_is_the_encoded_one(tmp_path: Path) -> None:
    site = encoded(tmp_path, "int8", **PRIVACY)
    reply = answer(site, first(site)[1])
    (kept,) = site.state.glob("kept-train-*.bin")
    assert digest_of(from_bytes(kept.read_bytes(), Updated)) == digest_of(reply)
    assert kept.stat().st_size == len(to_bytes(reply))


# ---- a model that comes as a difference ------------------------------------------------------------------------------


def test_a_model_that_comes_as_a_difference_is_trained_as_if_it_had_come_whole(tmp_path: Path) -> None:
    whole, site = (encoded(tmp_path / name, "float32", "zstd") for name in ("whole", "short"))
    request = first(site)[1]
    for s in (whole, site):
        answer(s, request)
    moved = Parameters(request.parameters.manifest, request.parameters.vector * np.float32(1.01))
    second = replace(request, round=2, parameters=moved)
    replies = answer(whole, second), answer(site, shorter(second, request.parameters))
    assert digest_of(replies[0]) == digest_of(replies[1])
    assert [e.facts["task"] for e in training_lines(site) if "task" in e.facts][-1] == "Train"


def test_a_difference_to_what_is_not_held_is_refused_by_a_code_of_its_own(tmp_path: Path) -> None:
    site = encoded(tmp_path, "float32", "zstd")
    request = first(site)[1]
    short = shorter(replace(request, round=2), request.parameters)
    assert answer(site, short) == Refused("alpha", Code.MODEL_NEEDED)
    answer(site, request)
    assert isinstance(answer(site, short), Updated)
    assert answer(open_site(tmp_path / "site.toml"), short) == Refused("alpha", Code.MODEL_NEEDED)


def test_a_request_that_the_policy_refuses_leaves_no_model_behind(tmp_path: Path) -> None:
    site = encoded(tmp_path, "float32", "zstd")
    site.policy = site.policy.model_copy(update={"max_parameter_bytes": 10})
    assert answer(site, first(site)[1]) == Refused("alpha", Code.UPDATE_TOO_LARGE)
    assert site.held is None


def test_a_private_round_that_comes_again_as_a_difference_is_not_paid_again(tmp_path: Path) -> None:
    site = encoded(tmp_path, "int8", "zstd", **PRIVACY)
    request = first(site)[1]
    answer(site, request)
    second = replace(request, round=2)
    reply = answer(site, second)
    head = site.ledger.head
    assert digest_of(answer(site, shorter(second, request.parameters))) == digest_of(reply)
    assert site.ledger.head == head
