"""The terminal shows every arm once where all meet, and what belongs to a hospital at that hospital."""

from collections.abc import Iterable

from rich.console import Console

from server.results import Meta, Results, Row
from simulation.summary import planned_words, summary


def row(arm: str, site: str, value: float) -> Row:
    limits = {"ci_low": value - 0.1, "ci_high": value + 0.1}
    return Row(arm=arm, seed=1, site=site, metric="auc", value=value, n=40, n_positive=12, **limits)


def muscle_row(arm: str, site: str, metric: str, value: float) -> Row:
    limits = {"ci_low": value - 0.1, "ci_high": value + 0.1}
    return Row(arm=arm, seed=1, site=site, metric=metric, value=value, n=40, **limits)


def meta_of(muscles: Iterable[str]) -> Meta:
    return Meta(synthetic=True, study={"segmentation": {"muscles": [{"name": name} for name in muscles]}})


def shown(results: Results, width: int = 150) -> list[str]:
    console = Console(width=width)
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


def test_of_muscles_every_arm_has_its_name_whole_however_many_there_are() -> None:
    sites = ("hospital_a", "hospital_b", "hospital_c")
    kinds = ("federated", "pooled", "federated@far", *(f"{kind}:{s}" for kind in ("local", "without") for s in sites))
    muscles = {"biceps": 0.9, "rectus_femoris": 0.8}
    rows = tuple(muscle_row(arm, "central", f"dice:{name}", value) for arm in kinds for name, value in muscles.items())
    rows += tuple(muscle_row(arm, "central", "dice", 0.85) for arm in kinds)
    trained = {"tables": {"muscles": {"trained": {"local:hospital_b": {"biceps": 8, "rectus_femoris": 0}}}}}
    lines = shown(Results(meta_of(muscles), rows, **trained), 80)
    assert lines[0] == "SYNTHETIC central test cohort, 40 people, Dice"
    text = "\n".join(lines)
    assert "…" not in text
    assert text.count("without:") == 3
    assert "local: 0.850 0.900 0.800*" in " ".join(text.split())
    assert ".750-.950" in text
    assert "*: nobody whom this arm learned from had the muscle drawn" in " ".join(text.split())


def test_of_muscles_a_tuned_arm_is_shown_at_its_own_hospital() -> None:
    rows = (muscle_row("federated", "central", "dice:biceps", 0.9), muscle_row("tuned:a", "a", "dice:biceps", 0.95))
    text = " ".join(shown(Results(meta_of(["biceps"]), rows), 80))
    assert " ".join(text.split()).endswith("federated 0.900 tuned: 0.950 a at a")


def test_a_planned_network_is_told_with_what_to_look_at_twice() -> None:
    plan = {"patch": [96, 96], "mm_per_pixel": 0.5, "features": [8, 16, 32]}
    about = {"plan": plan, "sites": ["a", "b"], "warnings": ["the plan rests on 12 participants"]}
    results = Results(Meta(), (), tables={"muscles": {"plans": {"nnunet": {"3": about}}}})
    assert list(planned_words(results)) == [
        "nnunet, seed 3, planned by the sums of 2 hospitals: 96 x 96 pixels of 0.5 mm, 3 stages of 8 to 32 features",
        "  the plan rests on 12 participants",
    ]
    assert not list(planned_words(Results(Meta(), ())))
