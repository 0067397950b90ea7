"""What a report says that hospitals sent is what each arm's own study lets out, and nothing more."""

import json
from pathlib import Path
from typing import Any

import pytest
from example_run import write_run

from server.methods import privacy
from server.results import Results, read_results
from server.sent import what_was_sent

SUMS, HISTOGRAM = "sums and counts of the columns", "fall into each bin of the predicted probability"


def told(directory: Path, arms: tuple[str, ...] = ("federated",), **of_arm: dict[str, Any]) -> Results:
    """A run whose arms wrote down these settings."""
    path = write_run(directory, arms=arms, seeds=[1]) / "results.json"
    tree = json.loads(path.read_text())
    plain = {"modalities": ["image", "clinical", "lab"], "statistics": "exact", "private": False}
    for arm, seeds in tree["meta"]["arms"].items():
        for facts in seeds.values():
            facts["privacy"] = plain | of_arm.get(arm.partition("@")[2] or arm, {})
    path.write_text(json.dumps(tree))
    return read_results(directory)


@pytest.mark.parametrize(
    ("settings", "said", "unsaid"),
    [
        ({}, (SUMS, HISTOGRAM, "the weights of the trained layers", "how many images"), ("under noise", "withholds")),
        ({"modalities": ["image"]}, (HISTOGRAM, "no image, no table row"), (SUMS,)),
        ({"modalities": ["lab"]}, (SUMS, "It sent no table row"), ("image",)),
        (
            {"statistics": "private", "private": True},
            ("a positive label (under noise)", "common scale (under noise)", "probability (under noise)"),
            ("withholds",),
        ),
        (
            {"statistics": "withheld", "private": True},
            ("a positive label (under noise)", "no sums over its tables and no histogram of training participants"),
            (SUMS, HISTOGRAM),
        ),
        (
            {"statistics": "withheld", "private": True, "modalities": ["image"]},
            ("It sent no histogram of training participants: the study withholds them",),
            (SUMS, HISTOGRAM, "sums over"),
        ),
        (
            {"secure_aggregation": True},
            ("under masks that only the sum over all hospitals takes away",),
            ("the weights of the trained layers",),
        ),
    ],
)
def test_each_kind_of_arm_has_its_own_sentence(
    tmp_path: Path, settings: dict[str, Any], said: tuple[str, ...], unsaid: tuple[str, ...]
) -> None:
    (text,) = what_was_sent(told(tmp_path, federated=settings))
    assert [words for words in said if words not in text] == []
    assert [words for words in unsaid if words in text] == []


def test_arms_that_sent_something_else_are_named_each_with_its_own(tmp_path: Path) -> None:
    results = told(tmp_path, ("federated", "federated@fedprox", "pooled"), fedprox={"statistics": "withheld"})
    lines = what_was_sent(results)
    assert [(SUMS in line, "FedProx" in line) for line in lines] == [(True, False), (False, True)]
    assert lines[0].startswith("In Federated each hospital sent")
    assert set(lines) <= set(privacy(results))


def test_a_run_that_wrote_nothing_down_is_told_by_its_study_file(tmp_path: Path) -> None:
    results = read_results(write_run(tmp_path, arms=("federated",), seeds=[1]))
    for study, words in (
        ({"privacy": {"epsilon": 3.0, "statistics": "withheld"}}, "the study withholds them"),
        ({"privacy": {"epsilon": 3.0}}, "common scale (under noise)"),
        ({"federation": {"secure_aggregation": True}}, "under masks"),
        ({}, "the weights of the trained layers after each round"),
    ):
        meta = results.meta.model_copy(update={"study": results.meta.study | study})
        assert words in what_was_sent(Results(meta, results.rows))[0], words
