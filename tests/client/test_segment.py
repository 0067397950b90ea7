"""A hospital's images come back with masks, measures and pictures; nobody's corrections and no other image are lost."""

import csv
import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from client.segment import NO_SPACING, Loaded, Options, segment
from client.segment_inputs import Input, Spacings, inputs
from client.segment_journal import FILE, Journal
from client.segment_page import page
from client.segment_table import Done, summary
from sarco_models.errors import ConfigError
from sarco_models.images import read_image
from sarco_models.masks import read_mask
from sarco_models.overlap import dice
from sarco_models.released_segmenter import About, ReleasedSegmenter
from sarco_models.segmenter import Segmenter
from tests.sarco_models.test_segmenter import Bright, segmentation_study
from tests.sites import BANNER_ROWS, FRAME, MM_PER_PIXEL, ultrasound, write_dicom

SPACING = Options(spacings=Spacings({}, Path(), (MM_PER_PIXEL, MM_PER_PIXEL)))
FINE = About(synthetic=True, threshold=0.3)


def loaded(digest: str = "a" * 64, about: About = FINE) -> Loaded:
    """A "model" that finds what is bright."""
    study, net = segmentation_study(), Bright()
    released = ReleasedSegmenter(study, net, about, digest)  # type: ignore[arg-type]
    return Loaded(released, Segmenter(study, net, mirror=True))


def muscle_picture(path: Path, seed: int = 0, *, dicom: bool = False) -> Path:
    """A frame whose muscle is bright."""
    rng = np.random.default_rng(seed)
    _, mask = ultrasound(rng, half_height=11)
    frame = (10 + rng.rayleigh(12, FRAME) + 118 * mask).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    if dicom:
        return write_dicom(path, frame)
    Image.fromarray(frame).save(path)
    return path


def run(images: Path, out: Path, options: Options = SPACING, model: Loaded | None = None) -> Done:
    return segment(inputs([images]), model or loaded(), out, options, lambda *_: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One DICOM file, one picture in a folder below it, and one that is broken."""
    muscle_picture(tmp_path / "in" / "a.dcm", dicom=True)
    muscle_picture(tmp_path / "in" / "ward 2" / "b.png")
    (tmp_path / "in" / "c.png").write_bytes(b"\x89PNG\r\n and no more")
    return tmp_path / "in"


def measures(out: Path) -> dict[str, dict[str, str]]:
    with (out / "measures.csv").open(newline="", encoding="utf-8") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


# ---- results ---------------------------------------------------------------------------------------------------------


def test_all_formats_hold_the_muscle_where_it_lies(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out")
    _, truth = ultrasound(np.random.default_rng(0), half_height=11)
    for name, region in (("a.dcm", truth[BANNER_ROWS:]), ("ward 2/b.png", truth)):
        frame = read_image(folder / name)
        for suffix in (".nii.gz", ".png", ".json"):
            mask = read_mask(tmp_path / "out" / "masks" / f"{name}{suffix}", frame)
            assert (dice(mask, region) or 0) > 0.95, (name, suffix)


def test_a_label_map_lies_where_itk_sees_the_picture(folder: Path, tmp_path: Path) -> None:
    """ITK-SNAP asks for the same size, spacing, origin and axes."""
    run(folder, tmp_path / "out")
    for name in ("a.dcm", "ward 2/b.png"):
        picture = sitk.ReadImage(str(folder / name))
        mask = sitk.ReadImage(str(tmp_path / "out" / "masks" / f"{name}.nii.gz"))
        assert mask.GetSize()[:2] == picture.GetSize()[:2]
        assert mask.GetSpacing()[:2] == picture.GetSpacing()[:2]
        assert mask.GetOrigin()[:2] == picture.GetOrigin()[:2]


def test_a_muscle_is_measured_in_millimetres(folder: Path, tmp_path: Path) -> None:
    """The ellipse is 22 x 44 pixels of .2 mm."""
    run(folder, tmp_path / "out")
    for name in ("a.dcm", "ward 2/b.png"):
        row = measures(tmp_path / "out")[name]
        assert row["muscle"] == "rectus_femoris"
        assert float(row["thickness_mm"]) == pytest.approx(4.4, abs=0.3)
        assert float(row["width_mm"]) == pytest.approx(8.8, abs=0.5)
        assert float(row["csa_cm2"]) == pytest.approx(np.pi * 0.22 * 0.44, rel=0.07)
        assert float(row["echo_intensity"]) == pytest.approx(143, abs=5)
        assert row["accepted"] == "yes"
        assert row["model"] == "a" * 12


def test_a_bad_file_is_a_line_in_the_report(folder: Path, tmp_path: Path) -> None:
    done = run(folder, tmp_path / "out")
    assert [record.image for record in done.failed] == ["c.png"]
    row = measures(tmp_path / "out")["c.png"]
    assert row["muscle"] == row["score"] == ""
    assert "damaged" in row["reasons"] or "format" in row["reasons"]
    assert not (tmp_path / "out" / "masks" / "c.png.png").exists()
    assert "not done: c.png" in "\n".join(summary(done))


def test_without_spacing_there_are_masks_and_no_measures(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out", Options())
    row = measures(tmp_path / "out")["ward 2/b.png"]
    assert row["thickness_mm"] == row["csa_cm2"] == row["width_mm"] == ""
    assert NO_SPACING in row["reasons"]
    assert (tmp_path / "out" / "masks" / "ward 2" / "b.png.nii.gz").is_file()
    assert measures(tmp_path / "out")["a.dcm"]["thickness_mm"] != "", "a DICOM file says its spacing"


def test_a_model_of_millimetres_asks_for_the_spacing_where_it_can_be_said(tmp_path: Path) -> None:
    muscle_picture(tmp_path / "in" / "b.png")
    study, net = segmentation_study(framing="physical"), Bright()
    released = ReleasedSegmenter(study, net, FINE, "b" * 64)  # type: ignore[arg-type]
    run(tmp_path / "in", tmp_path / "out", Options(), Loaded(released, Segmenter(study, net)))
    assert "--mm-per-pixel" in measures(tmp_path / "out")["b.png"]["reasons"]


def test_calibration_csv_says_where_and_how_large(tmp_path: Path) -> None:
    muscle_picture(tmp_path / "site" / "images" / "b.png")
    table = tmp_path / "site" / "calibration.csv"
    table.write_text(
        "image,x0,y0,x1,y1,mm_per_pixel_row,mm_per_pixel_column\n"
        f"images/b.png,0,{BANNER_ROWS},{FRAME[1]},{FRAME[0]},0.1,0.1\n"
    )
    run(tmp_path / "site" / "images", tmp_path / "out", Options(spacings=Spacings.read(table, (9.0, 9.0))))
    row = measures(tmp_path / "out")["b.png"]
    assert float(row["mm_per_pixel_row"]) == pytest.approx(0.1)
    assert float(row["thickness_mm"]) == pytest.approx(2.2, abs=0.2)


def test_an_image_without_a_muscle_says_so(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    dark = np.random.default_rng(0).rayleigh(12, FRAME).astype(np.uint8)
    Image.fromarray(dark).save(tmp_path / "in" / "dark.png")
    done = run(tmp_path / "in", tmp_path / "out")
    assert measures(tmp_path / "out")["dark.png"]["reasons"] == "no muscle was found"
    assert "1 without a muscle" in "\n".join(summary(done))
    assert done.failed == (), "nothing went wrong"


def test_the_largest_piece_alone_is_kept_and_the_rest_is_said(tmp_path: Path) -> None:
    path = muscle_picture(tmp_path / "in" / "a.png")
    with Image.open(path) as picture:
        pixels = np.asarray(picture).copy()
    pixels[2:9, 2:12] = 153
    Image.fromarray(pixels).save(path)
    run(tmp_path / "in", tmp_path / "all")
    run(tmp_path / "in", tmp_path / "one", replace(SPACING, largest=True))
    assert "further piece" in measures(tmp_path / "all")["a.png"]["reasons"]
    assert "further piece" not in measures(tmp_path / "one")["a.png"]["reasons"]
    frame = read_image(path)
    assert read_mask(tmp_path / "all/masks/a.png.png", frame)[4, 4]
    assert not read_mask(tmp_path / "one/masks/a.png.png", frame)[4, 4]


def test_a_dicom_file_gets_a_picture_for_labelme_and_a_picture_is_named(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out")
    masks = tmp_path / "out" / "masks"
    for json_file in (masks / "a.dcm.json", masks / "ward 2" / "b.png.json"):
        labelled = json.loads(json_file.read_text(encoding="utf-8"))
        with Image.open(json_file.parent / labelled["imagePath"]) as picture:
            assert (labelled["imageHeight"], labelled["imageWidth"]) == picture.size[::-1]


def test_results_are_for_their_owner_alone_and_name_nothing_but_the_image(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(folder, out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    names = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert names == {
        "measures.csv", "itk-snap-labels.txt", FILE, "overlays/a.dcm.png", "overlays/ward 2/b.png.png",
        "masks/a.dcm.nii.gz", "masks/a.dcm.png", "masks/a.dcm.json", "masks/a.dcm.tissue.png",
        "masks/ward 2/b.png.nii.gz", "masks/ward 2/b.png.png", "masks/ward 2/b.png.json",
    }  # fmt: skip


def test_only_the_formats_that_were_asked_for_are_written(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out", replace(SPACING, formats=("nifti",)))
    assert {p.suffix for p in (tmp_path / "out" / "masks").rglob("*") if p.is_file()} == {".gz"}


# ---- again -----------------------------------------------------------------------------------------------------------


def test_the_same_command_does_nothing_twice_and_keeps_corrections(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(folder, out)
    corrected = out / "masks" / "a.dcm.json"
    corrected.write_text("a radiologist's correction")
    table = (out / "measures.csv").read_text()
    model = loaded()
    again = run(folder, out, model=model)
    assert again.kept == 2
    assert corrected.read_text() == "a radiologist's correction"
    assert (out / "measures.csv").read_text() == table
    assert model.segmenter.net.seen == [], "the broken file is tried again, and none is found anew"  # type: ignore[union-attr]


def test_a_command_that_was_killed_goes_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("client.segment.overlay", killed)
        with pytest.raises(KeyboardInterrupt):
            run(folder, out)
    assert (out / "masks" / "a.dcm.nii.gz").is_file(), "half of an image's files are there"
    with (out / FILE).open("a") as file:
        file.write('{"image": "cut o')
    done = run(folder, out)
    assert done.kept == 0
    assert len(done.rows) == 3
    assert (out / "overlays" / "a.dcm.png").is_file()


def test_files_of_somebody_else_are_not_replaced(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    theirs = out / "masks" / "a.dcm.png"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("drawn by hand")
    with pytest.raises(ConfigError, match="nothing was changed"):
        run(folder, out)
    assert not (out / "overlays").exists()
    run(folder, out, replace(SPACING, overwrite=True))
    assert theirs.read_bytes().startswith(b"\x89PNG")


def test_other_options_and_changed_images_are_not_mixed_in(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(folder, out)
    before = (out / "measures.csv").read_text()
    with pytest.raises(ConfigError, match="other options"):
        run(folder, out, replace(SPACING, largest=True))
    muscle_picture(folder / "ward 2" / "b.png", seed=5)
    with Image.open(folder / "ward 2" / "b.png") as picture:
        Image.fromarray(np.asarray(picture) + np.uint8(1)).save(folder / "ward 2" / "b.png")
    with pytest.raises(ConfigError, match="another image"):
        run(folder, out)
    assert (out / "measures.csv").read_text() == before


def test_results_of_two_models_are_not_mixed(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out")
    with pytest.raises(ConfigError, match="holds results of model aaaa"):
        run(folder, tmp_path / "out", model=loaded("b" * 64))
    done = run(folder, tmp_path / "out", replace(SPACING, overwrite=True), loaded("b" * 64))
    assert {record.model for record in done.records.values()} == {"b" * 64}


def test_a_journal_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("[1, 2]\n")
    with pytest.raises(ConfigError, match="line 1"):
        Journal(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_rights_is_told(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(ConfigError, match="name a folder"):
        run(folder, tmp_path / "out")


# ---- which images ----------------------------------------------------------------------------------------------------


def test_folders_are_searched_and_other_files_left_out(folder: Path) -> None:
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"")
    write_dicom(folder / "IM0001", np.zeros(FRAME, np.uint8))
    assert [i.name for i in inputs([folder])] == ["IM0001", "a.dcm", "c.png", "ward 2/b.png"]
    assert [i.name for i in inputs([folder / "notes.txt"])] == ["notes.txt"], "a file that is named is meant"


def test_masks_and_earlier_results_are_no_images(folder: Path, tmp_path: Path) -> None:
    muscle_picture(folder / "masks" / "a.png")
    muscle_picture(folder / "ward 2" / "b_mask.png")
    before = inputs([folder])
    assert [i.name for i in before] == ["a.dcm", "c.png", "ward 2/b.png"]
    run(folder, folder / "results")
    assert inputs([folder]) == before
    with pytest.raises(ConfigError, match=r"holds no image"):
        inputs([folder / "results"])
    assert [i.name for i in inputs([folder / "masks"])] == ["a.png"], "a folder that is named is meant"


def test_results_need_a_folder_of_their_own(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ConfigError, match="name another folder"):
        run(folder, tmp_path / "out")


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    for ward in ("1", "2"):
        muscle_picture(tmp_path / ward / "a.png")
    with pytest.raises(ConfigError, match=r"would be called a\.png"):
        inputs([tmp_path / "1", tmp_path / "2"])
    assert [i.name for i in inputs([tmp_path])] == ["1/a.png", "2/a.png"]
    assert inputs([tmp_path / "1", tmp_path / "1" / "a.png"]) == (Input(tmp_path / "1" / "a.png", "a.png"),)


def test_nothing_to_look_at_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        inputs([tmp_path / "absent"])
    with pytest.raises(ConfigError, match="holds no image"):
        inputs([tmp_path])


def test_a_spacing_is_above_zero() -> None:
    with pytest.raises(ConfigError, match="above 0"):
        Spacings.read(None, (0.0, 0.0))


# ---- the page --------------------------------------------------------------------------------------------------------


def test_the_page_shows_doubt_first_and_says_that_the_model_is_synthetic(folder: Path, tmp_path: Path) -> None:
    model = loaded()
    html = page(run(folder, tmp_path / "out", model=model), model.released)
    assert html.index("c.png") < html.index("a.dcm"), "what is doubtful comes first"
    assert "SYNTHETIC" in html
    assert 'src="overlays/ward%202/b.png.png"' in html
    assert "http:" not in html
    assert "https:" not in html
    assert "<script" not in html


def test_a_model_of_real_people_has_no_such_mark(folder: Path, tmp_path: Path) -> None:
    model = loaded(about=About(synthetic=False, threshold=0.3))
    assert "SYNTHETIC" not in page(run(folder, tmp_path / "out", model=model), model.released)


def test_names_of_files_are_no_html(tmp_path: Path) -> None:
    muscle_picture(tmp_path / "in" / "<b>&.png")
    model = loaded()
    html = page(run(tmp_path / "in", tmp_path / "out", model=model), model.released)
    assert "<b>&" not in html
    assert "&lt;b&gt;&amp;.png" in html


def test_every_format_has_a_link(folder: Path, tmp_path: Path) -> None:
    model = loaded()
    html = page(run(folder, tmp_path / "out", model=model), model.released)
    for suffix in (".nii.gz", ".png", ".json"):
        assert f'href="masks/a.dcm{suffix}"' in html
