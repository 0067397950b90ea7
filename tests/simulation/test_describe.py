"""Table 1 and the subgroups come from the study's own features, hide small counts, and name nobody."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from sarco_models.cohort import Cohort, everyone
from sarco_models.config import StudyConfig
from sarco_models.errors import UndefinedMetric
from sarco_models.metrics import auc
from sarco_models.schema import design_columns
from sarco_models.scores import ParticipantScores
from simulation.describe import baseline, reference_variables, subgroups
from tests.sites import opened, read_csv, tables_site, tables_study

N = 240


def study(*features: Mapping[str, object]) -> StudyConfig:
    named = [{"group": "clinical", **feature} for feature in features]
    return StudyConfig.model_validate(
        {
            "name": "other",
            "title": "Another study",
            "label": {"column": "frailty", "rule": "own"},
            "features": tuple(named),
            "model": {"modalities": ("clinical",)},
        }
    )


OURS = study(
    {"name": "diabetes", "kind": "binary"},
    {"name": "male", "kind": "binary"},
    {"name": "age_years", "low": 18.0, "high": 110.0},
    {"name": "bmi_kg_per_m2", "low": 10.0, "high": 60.0},
    {"name": "region", "kind": "categorical", "categories": ("north", "south")},
)


def cohort(
    cfg: StudyConfig, columns: dict[str, object], *, owner: object = (), devices: tuple[str, ...] = ()
) -> Cohort:
    rng = np.random.default_rng(3)
    names = [column.name for column in design_columns(cfg.features)]
    table = np.stack([np.asarray(columns.get(name, rng.normal(50, 5, N)), dtype=np.float64) for name in names], axis=1)
    return Cohort(
        sites=("a",) * N,
        ids=tuple(f"SECRET-{k}" for k in range(N)),
        labels=(np.arange(N) % 3 == 0).astype(np.int8),
        table=table,
        owner=np.array(owner, dtype=np.int64),
        devices=devices,
        caches=(),
        findings=(),
    )


def own() -> Cohort:
    half = np.arange(N) % 2
    columns: dict[str, object] = {"diabetes": half, "male": np.arange(N) // 2 % 2, "age_years": 60 + np.arange(N) % 20}
    columns |= {"region=north": half, "region=south": 1 - half, "bmi_kg_per_m2": 20 + np.arange(N) % 7}
    owner = np.sort(np.concatenate([np.arange(N - 1), np.arange(N - 1)]))
    devices = tuple("X" if person % 4 else "Y" for person in owner)
    return cohort(OURS, columns, owner=owner, devices=devices)


def test_every_feature_is_a_line_binary_ones_by_their_yes_and_categories_each() -> None:
    rows = baseline(own(), OURS, np.random.default_rng(1), min_cell=1)
    named = [(row["variable"], row["level"]) for row in rows]
    assert named == [
        ("diabetes", "yes"), ("male", "yes"), ("age_years", ""), ("bmi_kg_per_m2", ""), ("region", "north"),
        ("region", "south"), ("images_per_participant", ""), ("device", "X"), ("device", "Y"),
    ]  # fmt: skip
    diabetes = rows[0]
    assert diabetes["positive"] == {"count": 40, "known": 80}
    assert diabetes["negative"] == {"count": 80, "known": 160}
    assert "SECRET" not in json.dumps(rows)


def test_counts_of_few_real_people_are_hidden() -> None:
    columns = {"diabetes": (np.arange(N) == 0).astype(float), "male": np.arange(N) % 2}
    few = cohort(OURS, columns | {"region=north": np.ones(N), "region=south": np.zeros(N)})
    hidden = baseline(few, OURS, np.random.default_rng(1), min_cell=5)[0]
    open_ = baseline(few, OURS, np.random.default_rng(1), min_cell=1)[0]
    assert open_["positive"]["count"] == 1
    assert hidden["positive"]["count"] is None
    assert hidden["p"] is None


def test_a_hospital_with_one_class_has_no_table() -> None:
    people = own()
    people.labels[:] = 0
    assert baseline(people, OURS, np.random.default_rng(1), min_cell=1) == []


def test_a_feature_that_nobody_has_is_left_out_and_json_holds_the_rest() -> None:
    gone = cohort(OURS, {"diabetes": np.full(N, np.nan), "male": np.arange(N) % 2, "region=north": np.full(N, np.nan)})
    rows = baseline(gone, OURS, np.random.default_rng(1), min_cell=1)
    assert [row["variable"] for row in rows] == ["male", "age_years", "bmi_kg_per_m2"]
    json.dumps(rows, allow_nan=False)


def scores(people: Cohort) -> ParticipantScores:
    rng = np.random.default_rng(8)
    return ParticipantScores(people.ids, people.labels + rng.normal(size=N), people.labels == 1)


def test_the_named_kinds_of_people_are_used_where_the_study_has_them() -> None:
    people = own()
    found = subgroups(everyone(people), scores(people), OURS, np.random.default_rng(1), repeats=50)
    assert [f["variable"] for f in found][:5] == ["male", "age_years", "bmi_kg_per_m2", "diabetes", "device"]
    assert [f["variable"] for f in found][5:] == ["images_per_participant"]
    assert [level["level"] for level in found[0]["levels"]] == ["men", "women"]
    assert [level["level"] for level in found[1]["levels"]] == ["< 70", ">= 70"]
    json.dumps(found, allow_nan=False)


def test_a_subgroups_auc_is_that_of_its_people_in_whatever_order_the_scores_come() -> None:
    people = own()
    of = scores(people)
    turned = ParticipantScores(of.ids[::-1], of.scores[::-1], of.labels[::-1])
    found = subgroups(everyone(people), turned, OURS, np.random.default_rng(1), repeats=50)
    older = people.table[:, 2] >= 70
    assert found[1]["levels"][1]["auc"]["value"] == pytest.approx(auc(of.scores[older], of.labels[older]))
    assert found[1]["levels"][1]["participants"] == int(older.sum())


def test_another_study_is_cut_by_its_own_features_eight_at_most() -> None:
    names = [f"flag_{k}" for k in range(3)], [f"size_{k}" for k in range(9)]
    other = study(
        *({"name": name, "low": 0.0, "high": 200.0} for name in names[1]),
        *({"name": name, "kind": "binary"} for name in names[0]),
    )
    people = cohort(other, {name: np.arange(N) // (k + 1) % 2 for k, name in enumerate(names[0])})
    found = subgroups(everyone(people), scores(people), other, np.random.default_rng(1), repeats=50)
    assert [f["variable"] for f in found] == [*names[0], *names[1][:5]]
    halves = [level["participants"] for level in found[3]["levels"]]
    assert halves == [N // 2, N // 2]


def test_scores_of_strangers_are_refused_without_naming_them() -> None:
    people = own()
    of = scores(people)
    strangers = ParticipantScores(("SECRET-X", *of.ids[1:]), of.scores, of.labels)
    with pytest.raises(UndefinedMetric, match="1 scores of participants who are not") as caught:
        subgroups(everyone(people), strangers, OURS, np.random.default_rng(1))
    assert "SECRET" not in str(caught.value)


def test_what_defines_the_label_is_described_and_words_are_left_out(tmp_path: Path) -> None:
    config = tables_study(label={"reference_columns": ["walk_speed_m_per_s", "nowhere"]})
    folder = tables_site(tmp_path / "site", 30)
    cohort = opened(folder, config)
    found = {variable.name: variable for variable in reference_variables(folder, cohort, config)}
    speeds = {row["participant_id"]: float(row["walk_speed_m_per_s"]) for row in read_csv(folder / "participants.csv")}
    assert found["walk_speed_m_per_s"].values.tolist() == [speeds[person] for person in cohort.ids]
    assert "nowhere" not in found
    rows = baseline(cohort, config, np.random.default_rng(1), min_cell=1, further=list(found.values()))
    assert "walk_speed_m_per_s" in {row["variable"] for row in rows}
