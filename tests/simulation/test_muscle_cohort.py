"""The hospitals of the muscle study: real formats, partial labels, the same bytes, whole after an interruption."""

import csv
import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from sarco_models.config import load_study
from sarco_models.drawn import read_drawn
from sarco_models.errors import ConfigError
from sarco_models.images import read_calibrations, read_image
from sarco_models.schema import read_images
from sarco_models.segmentation import SegmentationConfig
from simulation.anatomy import MUSCLES
from simulation.cli import PROJECT, app
from simulation.muscle_cohort import drawn_by, make_muscle_cohort
from simulation.muscle_people import PRINTED_R
from simulation.muscle_plan import CENTRAL, MuscleSite, Parameters, plan_muscles
from simulation.muscle_sites import hospitals
from simulation.phantom import preview, render

WIDTH = 64
SITES = ("hospital_a", "hospital_b", "hospital_c", "central")
TINY = Parameters("tiny", 1, 3, 6, WIDTH)
FULL = Parameters("full", 1, 3, 48, WIDTH)


def make(out: Path, **changes: object) -> dict[str, Path]:
    options: dict[str, object] = {"scale": "tiny", "seed": 1, "width_px": WIDTH, "workers": 1} | changes
    return make_muscle_cohort(out, **options)  # type: ignore[arg-type]


def tree(folder: Path) -> dict[str, str]:
    """Hash of every file."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("muscles") / "hospitals"
    make(out)
    return out


@pytest.fixture(scope="module")
def plan() -> dict[str, MuscleSite]:
    return {site.name: site for site in plan_muscles(TINY)}


@pytest.fixture(scope="module")
def segmentation() -> SegmentationConfig:
    found = load_study(PROJECT / "configs" / "muscles.toml").segmentation
    assert found is not None
    return found.model_copy(update={"classes": "muscles"})  # all that is drawn, whatever the study looks for


def images(site: Path) -> pd.DataFrame:
    return pd.read_csv(site / "images.csv", keep_default_na=False, dtype=str)


def test_the_full_plan_has_the_papers_people_at_three_hospitals() -> None:
    sites = plan_muscles(FULL)
    assert [s.name for s in sites] == list(SITES)
    groups = Counter(g for s in sites[:3] for g in s.people.age_group)
    assert groups == {"young": 22, "middle": 22, "elderly": 50}
    assert [len(s.ids) for s in sites] == [32, 31, 31, 48]
    for site in sites:
        for id_ in site.ids:
            mine = [v for v in site.views if v.participant_id == id_ and v.view == "single"]
            views = Counter((v.muscle if len(v.muscles) == 1 else "", v.side) for v in mine)
            assert set(views) == {(m, side) for m in MUSCLES for side in ("left", "right")}
            assert set(views.values()) <= {1, 2}
    assert 0.3 < np.mean([v.view == "arm" for s in sites for v in s.views]) * 15 / 2 < 0.7


def test_every_muscle_is_drawn_at_two_hospitals_and_none_draws_all() -> None:
    drawn = Counter(m for h in hospitals(3) for m in h.annotates)
    assert set(drawn) == set(MUSCLES)
    assert set(drawn.values()) == {2}
    assert all(set(h.annotates) < set(MUSCLES) for h in hospitals(3))


@pytest.mark.parametrize("site", SITES)
def test_tables_name_every_file_and_no_other(cohort: Path, site: str) -> None:
    listed, people = images(cohort / site), pd.read_csv(cohort / site / "participants.csv")
    on_disk = {str(p.relative_to(cohort / site)) for f in ("images", "masks") for p in (cohort / site / f).iterdir()}
    assert on_disk - {"masks/labels.txt"} == set(listed["image"]) | set(listed["mask"]) - {""}
    assert set(listed["participant_id"]) == set(people["participant_id"])
    assert list(people) == [
        "participant_id", "age_group", "age_years", "male", "height_m", "weight_kg", "fat_free_mass_kg",
        "muscle_mass_kg", "sit_to_stand_s",
    ]  # fmt: skip
    assert json.loads((cohort / site / "manifest.json").read_text())["notice"].startswith("SYNTHETIC")
    assert ("masks/labels.txt" in on_disk) == (site in ("hospital_b", "central"))


@pytest.mark.parametrize("site", SITES)
def test_every_mask_holds_exactly_what_the_hospital_draws(
    cohort: Path, plan: dict[str, MuscleSite], site: str, segmentation: SegmentationConfig
) -> None:
    """Read as a hospital reads: the muscles of the picture that it annotates, each to the pixel or nearly."""
    ids, folder = plan[site].ids, cohort / site
    rows, findings = read_images(folder / "images.csv", ids)
    assert not findings
    calibration = folder / "calibration.csv"
    calibrations = read_calibrations(calibration) if calibration.exists() else {}
    for row, planned in zip(rows, plan[site].views, strict=True):
        assert bool(row.mask) == bool(planned.drawn)
        if planned.number % 3 or not row.mask:
            continue
        frame = read_image(folder / row.image, calibrations.get(row.image))
        drawn, notes = read_drawn(
            folder / row.mask, frame, segmentation, muscle=row.muscle, label=row.mask_label, annotated=row.annotated
        )
        assert not notes
        assert drawn.present == set(planned.drawn)
        assert drawn.annotated == set(planned.exam.annotates)
        image = render(planned.scanned, np.random.default_rng(planned.seeds), device=planned.machine, width_px=WIDTH)
        truth = np.zeros_like(drawn.classes)
        for muscle, mask in zip(planned.muscles, (image.mask, image.second_mask), strict=False):
            assert mask is not None
            if muscle in planned.exam.annotates:
                truth[mask] = segmentation.names.index(muscle) + 1
        wrong = (drawn.classes != truth).sum()
        assert wrong <= (0.06 * (truth > 0).sum() if row.mask.endswith(".json") else 0)


def test_hospital_a_draws_two_muscles_on_an_arm_and_the_others_one(plan: dict[str, MuscleSite]) -> None:
    arms = [v for site in plan.values() for v in site.views if v.view == "arm"]
    assert {len(v.drawn) for v in arms if v.participant_id.startswith("SYN-MA")} == {2}
    assert {v.drawn for v in arms if v.participant_id.startswith("SYN-MB")} <= {("biceps_brachii",)}
    assert {v.drawn for v in arms if v.participant_id.startswith("SYN-MC-")} <= {("triceps_brachii",)}
    assert {v.side for site in plan.values() for v in site.views if v.view == "midline"} == {""}


def test_the_central_cohort_draws_every_muscle_on_every_device(cohort: Path, plan: dict[str, MuscleSite]) -> None:
    assert all(v.mask for v in plan[CENTRAL].views)
    assert {v.exam.hospital.name for v in plan[CENTRAL].views} == set(SITES[:3])
    assert {len(cell.split(";")) for cell in images(cohort / "central")["annotated"]} == {5}


def test_each_hospital_writes_its_own_formats(cohort: Path) -> None:
    suffixes = {s: {p.name.split(".", 1)[1] for p in (cohort / s / "masks").iterdir()} for s in SITES[:3]}
    assert suffixes == {"hospital_a": {"json"}, "hospital_b": {"nii.gz", "txt"}, "hospital_c": {"png"}}
    assert {p.suffix for p in (cohort / "hospital_c" / "images").iterdir()} == {".jpg"}
    assert {p.suffix for p in (cohort / "hospital_a" / "images").iterdir()} == {".dcm"}
    assert set(images(cohort / "hospital_a")["muscle"]) == {"biceps", "triceps", "RF", "RA", "PLPB"}
    with Image.open(next((cohort / "hospital_c" / "masks").iterdir())) as mask:
        assert mask.mode == "P"


def test_truth_lies_outside_the_hospitals_and_says_what_is_no_measurement(cohort: Path) -> None:
    assert {p.stem for p in (cohort / "truth").iterdir()} == {*SITES, *(f"{s}_people" for s in SITES)}
    truth = pd.read_csv(cohort / "truth" / "hospital_a.csv")
    two = truth[truth["view"] == "arm"]
    assert set(two["muscle"]) == {"biceps_brachii", "triceps_brachii"}
    assert (two["whole"] == 0).all()
    assert (two.groupby("image").size() == 2).all()
    single = truth[truth["view"] == "single"]
    assert (single["whole"] == 1).all()
    assert set(single.loc[single["drawn"] == 0, "muscle"]) == {"rectus_abdominis", "peroneus_longus_brevis"}
    people = pd.read_csv(cohort / "truth" / "hospital_a_people.csv")
    assert {"lean", "fitness", "rectus_femoris_left_thickness_mm"} <= set(people)


def test_the_truth_of_the_pictures_correlates_as_printed() -> None:
    """Five cohorts of the paper's size: the mean r of what a perfect reader would measure in the single views."""
    found: dict[str, list[float]] = {m: [] for m in PRINTED_R}
    for seed in range(1, 6):
        sites = plan_muscles(Parameters("small", seed, 3, 47, WIDTH))
        for muscle, (column, _) in PRINTED_R.items():
            rows = [(s, k, id_) for s in sites for k, id_ in enumerate(s.ids)]
            seen = {id_: _thickness(s, id_, muscle) for s, _, id_ in rows}
            values = [getattr(s.people, column)[k] for s, k, _ in rows]
            found[muscle].append(float(np.corrcoef([seen[i] for _, _, i in rows], values)[0, 1]))
    for muscle, (_, r) in PRINTED_R.items():
        wanted = -r if muscle == "peroneus_longus_brevis" else r
        assert np.mean(found[muscle]) == pytest.approx(wanted, abs=0.08), muscle


def _thickness(site: MuscleSite, id_: str, muscle: str) -> float:
    """The right side's first single view, without drawing it."""
    view = next(v for v in site.views if v.participant_id == id_ and v.muscles == (muscle,) and v.side == "right")
    rng = np.random.default_rng(view.seeds)
    return preview(view.scanned, rng, device=view.machine, width_px=WIDTH).truth.thickness_mm


def test_an_interrupted_cohort_is_completed_to_the_same_bytes(cohort: Path, tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise Interrupted

    out = tmp_path / "again"
    with pytest.raises(Interrupted):
        make(out, progress=stop)
    assert not (out / "central" / "manifest.json").exists()
    next((out / "hospital_a" / "masks").iterdir()).write_bytes(b"")
    make(out)
    assert tree(out) == tree(cohort)


def test_a_lost_image_is_drawn_again_and_nothing_else_changes(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(cohort, out)
    next((out / "hospital_c" / "images").iterdir()).unlink()
    make(out)
    assert tree(out) == tree(cohort)


@pytest.mark.slow
def test_workers_do_not_change_a_byte(cohort: Path, tmp_path: Path) -> None:
    make(tmp_path / "two", workers=2)
    assert tree(tmp_path / "two") == tree(cohort)


@pytest.mark.slow
def test_device_shift_changes_pictures_alone(cohort: Path, tmp_path: Path) -> None:
    make(tmp_path / "far", device_shift=2)
    old, new = tree(cohort), tree(tmp_path / "far")
    changed = {path for path in old if old[path] != new[path]}
    kinds = {Path(path).suffix for path in changed}
    assert kinds == {".dcm", ".jpg", ".json"}
    assert {Path(path).name for path in changed if path.endswith(".json")} == {"manifest.json", "plan.json"}
    assert not [path for path in changed if path.startswith("hospital_a/images")]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scale", "huge"),
        ("seed", -1),
        ("sites", 0),
        ("sites", 10),
        ("width_px", 8),
        ("workers", 0),
        ("central_participants", -1),
        ("device_shift", float("nan")),
        ("peroneus", "up"),
        ("annotates", {"hospital_z": ("rectus_femoris",)}),
        ("annotates", {"hospital_a": ("soleus",)}),
        ("annotates", {"hospital_a": ()}),
    ],
)
def test_a_wrong_parameter_is_named_and_nothing_is_written(tmp_path: Path, field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        make(tmp_path / "out", **{field: value})
    assert not (tmp_path / "out").exists()


def test_hospitals_draw_what_they_are_told_to() -> None:
    asked = drawn_by(["hospital_a=peroneus_longus_brevis, rectus_femoris"])
    sites = plan_muscles(Parameters("tiny", 1, 5, 0, WIDTH, annotates=tuple(asked.items())))
    assert [s.name for s in sites] == [f"hospital_{c}" for c in "abcde"]
    assert {m for v in sites[0].views for m in v.drawn} == {"peroneus_longus_brevis", "rectus_femoris"}
    assert {v.exam.device for v in sites[3].views} == {"aixplorer"}


@pytest.mark.parametrize("text", ["hospital_a", "hospital_a=rectus_femoris,hospital_a=biceps_brachii"])
def test_what_hospitals_draw_is_said_clearly(text: str) -> None:
    with pytest.raises(ConfigError, match="annotates"):
        drawn_by([text, text] if "=" in text else [text])


@pytest.mark.slow
def test_the_command_makes_hospitals_and_a_contact_sheet(tmp_path: Path) -> None:
    arguments = ["muscles", str(tmp_path / "h"), "--scale", "tiny", "--sites", "2", "--central", "0"]
    result = CliRunner().invoke(app, [*arguments, "--annotates", "hospital_b=rectus_femoris"])
    assert result.exit_code == 0, result.output
    assert "hospital_b" in result.output
    assert {p.name for p in (tmp_path / "h").iterdir()} == {
        "hospital_a", "hospital_b", "truth", "plan.json", "contact.png",
    }  # fmt: skip
    with (tmp_path / "h" / "hospital_b" / "images.csv").open() as file:
        assert {r["muscle"] for r in csv.DictReader(file) if r["mask"]} == {"rectus_femoris"}
    with Image.open(tmp_path / "h" / "contact.png") as sheet:
        assert min(sheet.size) > 400
    refused = CliRunner().invoke(app, ["muscles", str(tmp_path / "h"), "--seed", "2"])
    assert refused.exit_code == 1
    assert "other parameters" in refused.output
