"""The hospitals' folders: real formats, exact counts, same bytes for the same seed, whole after an interruption."""

import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from sarco_models.errors import ConfigError
from sarco_models.images import Frame, read_calibrations, read_image
from sarco_models.masks import read_mask
from simulation.centers import CENTERS
from simulation.formats import labelme_mask_bytes
from simulation.phantom import Image, render
from simulation.plan import Parameters, PlannedImage, PlannedSite, plan_sites
from simulation.synthetic import make_cohort

WIDTH = 64
SITES = ("shanghai", "sichuan", "zhongshan", "central")
TINY = Parameters("tiny", 1, "paper_matched", 24, WIDTH)


def make(out: Path, **changes: object) -> dict[str, Path]:
    options: dict[str, object] = {"scale": "tiny", "seed": 1, "width_px": WIDTH, "workers": 1} | changes
    return make_cohort(out, **options)  # type: ignore[arg-type]


def tree(folder: Path) -> dict[str, str]:
    """Hash of every file."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cohort") / "hospitals"
    make(out)
    return out


@pytest.fixture(scope="module")
def plan() -> dict[str, PlannedSite]:
    return {site.name: site for site in plan_sites(TINY)}


def drawn(planned: PlannedImage) -> Image:
    rng = np.random.default_rng(planned.seeds)
    return render(planned.exam.subject, rng, device=planned.exam.device, width_px=planned.width_px)


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def dicom_region(data: pydicom.Dataset) -> tuple[slice, slice]:
    """Rows and columns of the 2-D tissue region; its last row and column are inside."""
    (tissue,) = (r for r in data.SequenceOfUltrasoundRegions if (r.RegionSpatialFormat, r.RegionDataType) == (1, 1))
    return (
        slice(tissue.RegionLocationMinY0, tissue.RegionLocationMaxY1 + 1),
        slice(tissue.RegionLocationMinX0, tissue.RegionLocationMaxX1 + 1),
    )


def test_full_scale_plan_has_exactly_the_papers_counts() -> None:
    sites = plan_sites(Parameters("full", 1, "paper_matched", 300, 224))
    for site in sites[:3]:
        full = CENTERS[site.name].full
        sarcopenia = site.table.set_index("participant_id")["sarcopenia"]
        images = pd.Series([sarcopenia[i.participant_id] for i in site.images])
        assert [(sarcopenia == c).sum() for c in (0, 1)] == [full.participants.healthy, full.participants.sarcopenia]
        assert [(images == c).sum() for c in (0, 1)] == [full.images.healthy, full.images.sarcopenia]
    assert len(sites[3].table) == 300


def test_images_per_participant_stay_in_the_centres_range() -> None:
    for site in plan_sites(Parameters("full", 2, "paper_matched", 6, 224))[:3]:
        each = pd.Series([i.participant_id for i in site.images]).value_counts()
        limits = CENTERS[site.name].images_each
        assert len(each) == len(site.table)
        assert each.min() >= min(limits.healthy[0], limits.sarcopenia[0])
        assert each.max() <= max(limits.healthy[1], limits.sarcopenia[1])


def test_central_participants_are_other_people(plan: dict[str, PlannedSite]) -> None:
    central = plan["central"]
    assert central.table["participant_id"].str.startswith("SYN-CT-").all()
    assert {i.exam.center for i in central.images} == set(CENTERS)
    thickness = {i.exam.subject.thickness_mm for s in plan.values() if s.name != "central" for i in s.images}
    assert not thickness & {i.exam.subject.thickness_mm for i in central.images}


@pytest.mark.parametrize("site", SITES)
def test_tables_name_every_file_and_no_other(cohort: Path, site: str) -> None:
    images = pd.read_csv(cohort / site / "images.csv")
    people = pd.read_csv(cohort / site / "participants.csv")
    on_disk = {str(p.relative_to(cohort / site)) for f in ("images", "masks") for p in (cohort / site / f).iterdir()}
    assert on_disk == set(images["image"]) | set(images["mask"])
    assert set(images["participant_id"]) == set(people["participant_id"])
    assert not people["participant_id"].duplicated().any()
    assert set(images["side"]) == {"left", "right"}
    assert json.loads((cohort / site / "manifest.json").read_text())["notice"].startswith("SYNTHETIC")


def test_the_manifest_says_how_far_from_table_1_it_is(cohort: Path) -> None:
    manifest = json.loads((cohort / "shanghai" / "manifest.json").read_text())
    people = pd.read_csv(cohort / "shanghai" / "participants.csv")
    healthy = people.loc[people["sarcopenia"] == 0, "albumin_g_per_l"].median()
    said = manifest["median_deviation_from_table_1"]["albumin_g_per_l"]["healthy"]
    assert 39.90 * (1 + said) == pytest.approx(healthy, abs=0.01)


def test_truth_lies_outside_the_hospitals(cohort: Path) -> None:
    assert {p.stem for p in (cohort / "truth").iterdir()} == set(SITES)
    assert not list(cohort.glob("*/truth*"))
    truth = pd.read_csv(cohort / "truth" / "shanghai.csv")
    assert truth["image"].tolist() == pd.read_csv(cohort / "shanghai" / "images.csv")["image"].tolist()


@pytest.mark.parametrize("site", SITES)
def test_dicom_region_holds_exactly_the_rendered_pixels(cohort: Path, plan: dict[str, PlannedSite], site: str) -> None:
    for planned in [i for i in plan[site].images if not i.exam.jpg][::5]:
        data, image = pydicom.dcmread(cohort / site / planned.image), drawn(planned)
        pixels = data.pixel_array if data.pixel_array.ndim == 2 else data.pixel_array[..., 1]
        assert np.array_equal(pixels[dicom_region(data)], image.pixels)
        region = data.SequenceOfUltrasoundRegions[-1]
        assert 10 * region.PhysicalDeltaX == pytest.approx(image.mm_per_pixel)
        assert (data.PatientID, data.Modality) == (planned.participant_id, "US")
        assert data.BurnedInAnnotation == ("YES" if planned.burned_in else "NO")


def test_some_dicoms_list_another_region_first_and_some_are_rgb(cohort: Path) -> None:
    data = [pydicom.dcmread(p, stop_before_pixels=True) for p in cohort.glob("*/images/*.dcm")]
    assert {len(d.SequenceOfUltrasoundRegions) for d in data} == {1, 2}
    assert {d.PhotometricInterpretation for d in data} == {"RGB", "MONOCHROME2"}
    assert {d.BurnedInAnnotation for d in data} == {"YES", "NO"}
    assert len({d.SOPInstanceUID for d in data}) == len(data)
    assert all(str(d.PatientName).startswith("SYN^PATIENT") for d in data)


def test_jpgs_have_a_calibration_and_dicoms_need_none(cohort: Path, plan: dict[str, PlannedSite]) -> None:
    calibration = pd.read_csv(cohort / "sichuan" / "calibration.csv").set_index("image")
    jpgs = [i for i in plan["sichuan"].images if i.exam.jpg]
    assert list(calibration.index) == [i.image for i in jpgs]
    for planned in jpgs:
        frame, image = np.asarray(Pillow.open(cohort / "sichuan" / planned.image)), drawn(planned)
        row = calibration.loc[planned.image]
        shown = frame[int(row["y0"]) : int(row["y1"]), int(row["x0"]) : int(row["x1"])]
        assert np.abs(shown.astype(int) - image.pixels).mean() < 4
        assert row["mm_per_pixel_row"] == pytest.approx(image.mm_per_pixel, abs=1e-6)
    assert not (cohort / "shanghai" / "calibration.csv").exists()


@pytest.mark.parametrize("site", SITES)
def test_hospitals_readers_find_the_rendered_picture_and_mask(
    cohort: Path, plan: dict[str, PlannedSite], site: str
) -> None:
    calibrations = read_calibrations(cohort / site / "calibration.csv") if site in ("sichuan", "central") else {}
    for planned in plan[site].images[::3]:
        frame = read_image(cohort / site / planned.image, calibrations.get(planned.image))
        image = drawn(planned)
        assert frame.pixels.shape == image.pixels.shape
        assert planned.exam.jpg or np.array_equal(frame.pixels, image.pixels)
        assert frame.mm_per_pixel == pytest.approx((image.mm_per_pixel, image.mm_per_pixel), abs=1e-6)
        mask = read_mask(cohort / site / planned.mask, frame)
        if planned.mask.endswith(".json"):
            assert dice(mask, image.mask) > 0.98
        else:
            assert np.array_equal(mask, image.mask)


def test_nothing_is_drawn_outside_the_region(cohort: Path, plan: dict[str, PlannedSite]) -> None:
    for planned in plan["sichuan"].images:
        mask = np.asarray(Pillow.open(cohort / "sichuan" / planned.mask)) > 0
        assert mask.sum() == drawn(planned).mask.sum()


def test_labelme_polygon_at_full_size_is_the_mask(tmp_path: Path) -> None:
    image = render(plan_sites(TINY)[2].images[0].exam.subject, np.random.default_rng(0), device="samsung_r10")
    (tmp_path / "mask.json").write_bytes(labelme_mask_bytes(image.mask, "x.dcm"))
    frame = Frame(image.pixels, None, "", (0, 0), image.pixels.shape)
    assert dice(read_mask(tmp_path / "mask.json", frame), image.mask) > 0.99


def test_nifti_opens_in_itk(cohort: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    path = next((cohort / "shanghai" / "masks").iterdir())
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert mask.shape[0] == 1
    assert set(np.unique(mask)) == {0, 1}


def test_another_seed_is_another_cohort(cohort: Path) -> None:
    other = plan_sites(Parameters("tiny", 2, "paper_matched", 24, WIDTH))[0]
    assert (
        other.table["weight_kg"].tolist() != pd.read_csv(cohort / "shanghai" / "participants.csv")["weight_kg"].tolist()
    )


def test_an_interrupted_cohort_is_completed_to_the_same_bytes(cohort: Path, tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise Interrupted

    out = tmp_path / "again"
    with pytest.raises(Interrupted):
        make(out, progress=stop)
    assert not (out / "shanghai" / "manifest.json").exists() or not (out / "central" / "manifest.json").exists()
    lost = next((out / "shanghai" / "images").iterdir())
    lost.write_bytes(b"")
    (lost.parent / f"{lost.name}.part").write_bytes(b"half")
    make(out)
    assert tree(out) == tree(cohort)


def test_other_parameters_are_refused(cohort: Path) -> None:
    before = tree(cohort)
    with pytest.raises(ConfigError, match=r"other parameters \(seed = 1 there, 7 asked\)"):
        make(cohort, seed=7)
    assert tree(cohort) == before


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        make(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("scale", "huge"), ("preset", "x"), ("width_px", 8), ("seed", -1), ("workers", 0), ("central_participants", 5)],
)
def test_a_wrong_parameter_is_named_and_nothing_is_written(tmp_path: Path, field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        make(tmp_path / "out", **{field: value})
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_workers_do_not_change_a_byte(cohort: Path, tmp_path: Path) -> None:
    make(tmp_path / "two", workers=2)
    assert tree(tmp_path / "two") == tree(cohort)


@pytest.mark.slow
def test_a_killed_process_is_completed_to_the_same_bytes(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    call = f"make_cohort(Path({str(out)!r}), scale='tiny', seed=1, width_px={WIDTH}, workers=1)"
    script = f"from pathlib import Path; from simulation.synthetic import make_cohort; {call}"
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", script], cwd=root)  # noqa: S603 - our own interpreter
    while process.poll() is None and len(list(out.glob("*/images/*"))) < 40:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "central" / "manifest.json").exists()
    make(out)
    assert tree(out) == tree(cohort)


def test_a_shifted_cohort_has_the_same_people_seen_otherwise(cohort: Path, tmp_path: Path) -> None:
    make(tmp_path / "far", device_shift=2)
    for name in ("shanghai", "zhongshan"):
        old, new = tree(cohort / name), tree(tmp_path / "far" / name)
        changed = {path for path in old if old[path] != new[path]}
        pictures = {path for path in old if path.startswith("images/")}
        assert changed == {"manifest.json"} | (pictures if name == "zhongshan" else set())
    manifest = json.loads((tmp_path / "far" / "zhongshan" / "manifest.json").read_text())
    assert (manifest["device_shift"], manifest["prevalence_shift"]) == (2.0, 1.0)
    with pytest.raises(ConfigError, match=r"device_shift = 2.0 there, 1.0 asked"):
        make(tmp_path / "far")


def test_prevalence_shifts_the_hospitals_and_the_central_cohort() -> None:
    def share(shift: float) -> list[float]:
        sites = plan_sites(Parameters("full", 1, "paper_matched", 300, WIDTH, prevalence_shift=shift))
        return [float(site.table["sarcopenia"].mean()) for site in sites]

    none, twice = share(0.0), share(2.0)
    assert none == pytest.approx([0.322] * 4, abs=0.01)
    assert twice == pytest.approx([0.247, 0.622, 0.162, 0.343], abs=0.01)


@pytest.mark.parametrize("name", ["device_shift", "prevalence_shift"])
@pytest.mark.parametrize("shift", [-0.5, 4.1, float("nan"), float("inf")])
def test_a_shift_out_of_range_is_refused(tmp_path: Path, name: str, shift: float) -> None:
    with pytest.raises(ConfigError, match=f"{name}: .*between 0 .* and 4"):
        make(tmp_path / "out", **{name: shift})
    assert not (tmp_path / "out").exists()
