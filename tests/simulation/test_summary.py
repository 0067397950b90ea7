"""The terminal shows every arm once where all meet, and what belongs to a hospital at that hospital."""

from rich.console import Console

from server.results import Meta, Results, Row
from simulation.summary import summary


def row(arm: str, site: str, value: float) -> Row:
    limits = {"ci_low": value - 0.1, "ci_high": value + 0.1}
    return Row(arm=arm, seed=1, site=site, metric="auc", value=value, n=40, n_positive=12, **limits)


def shown(results: Results) -> list[str]:
    console = Console(width=150)
    with console.capture() as capture:
        console.print(summary(results))
    return [line.strip() for line in capture.get().splitlines()]


def test_intervals_stand_beside_the_auc_and_the_people_in_the_title() -> None:
    lines = shown(Results(Meta(synthetic=True), (row("federated", "central", 0.8),)))
    assert lines[0] == "SYNTHETIC central test cohort, 40 people, 12 with sarcopenia"
    assert "federated" in lines[2]
    assert "0.800 (0.700-0.900)" in lines[2]


def test_tuned_and_left_out_hospitals_are_shown_where_they_belong() -> None:
    rows = (
        row("federated", "central", 0.8), row("federated", "a", 0.81), row("tuned:a", "a", 0.82),
        row("without:a", "central", 0.7), row("without:a", "a", 0.71), row("without:a", "b", 0.72),
    )  # fmt: skip
    text = "\n".join(shown(Results(Meta(), rows)))
    assert "tuned:a at a" in text
    assert "without:a at a" in text
    assert "without:a at b" not in text
    assert "federated at" not in text


def test_of_a_cross_validation_the_centre_is_named() -> None:
    protocol = {"kind": "cross_validation", "site": "a", "selected": {"1": "lab"}}
    meta = Meta.model_validate({"protocol": protocol, "study": {"label": {"column": "frailty"}}})
    lines = shown(Results(meta, (row("cv:a@image", "a", 0.8), row("cv:a@lab", "a", 0.7), row("cv:a@lab", "b", 0.6))))
    assert lines[0] == "out of fold at a, 40 people, 12 with frailty"
    assert [line.split("  ")[0] for line in lines[2:5]] == ["image", "lab", "lab at b"]
