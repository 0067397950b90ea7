"""Bytes of one hospital in one round, and the form of updates, wherever a run is reported."""

from typing import Any

import pytest

from sarco_models.federating import FederationConfig
from server.results import Results
from server.run_facts import Meta
from server.run_tables import traffic
from server.traffic import Traffic, each_round, form_of, in_words


def record(round_: int, sites: str, down: int, up: int) -> dict[str, Any]:
    return {"round": round_, "sites": {name: {} for name in sites}, "bytes_down": down, "bytes_up": up}


def federation(**settings: Any) -> FederationConfig:
    return FederationConfig.model_validate(settings)


RECORDS = [record(0, "abc", 10**9, 10**6), record(1, "abc", 3000, 900), record(2, "ac", 3000, 600)]


def test_what_was_sent_once_is_in_no_round_and_a_round_is_shared_by_who_took_part() -> None:
    assert each_round(RECORDS) == Traffic(6000 / 5, 1500 / 5)


@pytest.mark.parametrize("records", [[], RECORDS[:1], [RECORDS[0], record(1, "", 3000, 0)]])
def test_before_the_first_round_there_is_nothing_to_say(records: list[dict[str, Any]]) -> None:
    assert each_round(records) is None
    assert in_words(records, federation()) == ""


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "float32"),
        ({"compression": "zstd"}, "float32, zstd"),
        ({"encoding": "int8", "compression": "zstd"}, "int8, zstd"),
        ({"encoding": "bf16"}, "bf16"),
        ({"secure_aggregation": True, "min_sites": 3}, "integers under masks"),
    ],
)
def test_the_form_of_updates_is_said(settings: dict[str, Any], said: str) -> None:
    cfg = federation(**settings)
    assert form_of(cfg) == said
    assert in_words(RECORDS, cfg) == f"each hospital, each round: 1.2 kB down, 300 bytes up ({said})"


def results(**facts: Any) -> Results:
    arm = {"trained_on": ["a"], "rounds": 2, "bytes_down": 10**9, "bytes_up": 10**6, **facts}
    return Results(Meta.model_validate({"arms": {"federated": {"1": arm}}}), ())


def test_the_report_has_the_form_and_the_bytes_of_one_hospital() -> None:
    table = traffic(results(update_form="int8, zstd", round_down=1200.0, round_up=300.0))
    cells = dict(zip(table.head, (cell.main for cell in table.rows[0].cells), strict=True))
    assert cells["Updates as"] == "int8, zstd"
    assert cells["Down, each round and hospital"] == "1.2 kB"
    assert cells["Up, each round and hospital"] == "300 bytes"
    assert cells["Down"] == "1 GB"


def test_a_run_of_an_older_version_does_not_say_it() -> None:
    assert [cell.main for cell in traffic(results()).rows[0].cells][1:5] == ["–", "2", "–", "–"]
