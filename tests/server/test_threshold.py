"""Where there is no threshold, the reason that is given is the true one."""

import pytest

from sarco_models.wire import Evaluated
from server.threshold import frozen_threshold
from tests.sites import tables_study

PRIVATE = {"training": {"balance_classes": False, "local_steps": 5, "optimizer": "sgd"}}


@pytest.mark.parametrize(
    ("statistics", "words"),
    [
        ("withheld", "the study withholds histograms (privacy.statistics)"),
        ("private", "no site shows a histogram: a class has fewer people than may be shown, or the site's policy"),
        ("exact", "no site shows a histogram: a class has fewer people than may be shown, or the site's policy"),
        (None, "no site shows a histogram: a class has fewer people than may be shown, or the site's policy"),
    ],
)
def test_no_histogram_at_all_is_explained(statistics: str | None, words: str) -> None:
    privacy = {"privacy": {"epsilon": 3.0, "delta": 1e-3, "statistics": statistics}} if statistics else {}
    replies = [Evaluated(name, 3, 40, {}, None) for name in ("alpha", "beta")]
    found = frozen_threshold(replies, tables_study(**PRIVATE, **privacy), 0.3)
    assert found["threshold"] is None
    assert found["no_threshold"].startswith(words)
    assert found["threshold_from"]["withheld"] == ["alpha", "beta"]
