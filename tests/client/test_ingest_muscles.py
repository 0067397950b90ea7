"""A hospital's muscle masks become a site's: every label is a muscle that somebody has named, or its mask stays out."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from client.ingest import Ingested, ingest, lines
from client.mapping import load_mapping
from sarco_models.config import StudyConfig
from sarco_models.drawn import Drawn, read_drawn
from sarco_models.errors import ConfigError, Finding
from sarco_models.images import read_calibrations, read_image
from sarco_models.mask_files import label_descriptions, write_nifti, write_png
from sarco_models.schema import ImageRow, read_images
from sarco_models.segmentation import OUTSIDE
from tests.muscle_sites import (
    FRAME,
    MM_PER_PIXEL,
    arm_of,
    label_map,
    muscle_study,
    picture,
    polygon,
    thigh_of,
    write_labelme,
    write_labels,
)
from tests.sites import CALIBRATION_COLUMNS, write_csv

ARM = arm_of(0)
DESCRIPTIONS = """\
################################################
# ITK-SnAP Label Description File
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
################################################
    0     0    0    0        0  0  0    "Clear Label"
    7   230  159    0        1  1  1    "Trizeps re"
    8    86  180  233        1  1  1    "Bizeps re"
"""

Hospital = Callable[..., Path]


@pytest.fixture
def study() -> StudyConfig:
    return muscle_study()


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    """An export of people with one arm image each; ``draw`` puts masks of the k-th below its folder."""

    def build(draw: Callable[[Path, str, int], None], people: int = 2, name: str = "arm") -> Path:
        source, rng = tmp_path / "export", np.random.default_rng(5)
        (source / "images").mkdir(parents=True)
        (source / "masks").mkdir()
        ids = [f"K{k:03d}" for k in range(people)]
        for k, id_ in enumerate(ids):
            picture(source / f"images/{id_}_{name}.png", ARM, rng)
            draw(source, f"{id_}_{name}", k)
        write_csv(source / "participants.csv", ("patient id",), [(id_,) for id_ in ids])
        region = (0, 0, FRAME[1], FRAME[0], MM_PER_PIXEL, MM_PER_PIXEL)
        write_csv(
            source / "calibration.csv",
            CALIBRATION_COLUMNS,
            [(f"images/{id_}_{name}.png", *region) for id_ in ids],
        )
        return source

    return build


def run(source: Path, study: StudyConfig, **asked: Any) -> Ingested:
    return ingest(source, source.parent / "data", study, workers=0, **asked)


def corrected(done: Ingested, *changes: tuple[str, str]) -> None:
    text = done.mapping.read_text(encoding="utf-8")
    for before, after in changes:
        assert before in text, before
        text = text.replace(before, after, 1)
    done.mapping.write_text(text, encoding="utf-8")


def rules(done: Ingested, *names: str) -> list[Finding]:
    return [f for f in done.findings if f.rule in names]


def images(done: Ingested) -> tuple[ImageRow, ...]:
    ids = [row["participant_id"] for row in table(done.data / "participants.csv")]
    return read_images(done.data / "images.csv", ids)[0]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def drawn(done: Ingested, study: StudyConfig, row: ImageRow) -> Drawn:
    """As training reads it."""
    assert study.segmentation
    frame = read_image(done.data / row.image, read_calibrations(done.data / "calibration.csv")[row.image])
    found, _ = read_drawn(
        done.data / row.mask,
        frame,
        study.segmentation,
        muscle=row.muscle,
        label=row.mask_label,
        annotated=row.annotated,
    )
    return found


def both_in_labelme(first: str, second: str, **more: Any) -> Callable[[Path, str, int], None]:
    def draw(source: Path, name: str, _: int) -> None:
        outlines = {first: [polygon(ARM[1])], second: [polygon(ARM[2])]} | more
        write_labelme(source / f"masks/{name}.json", outlines)

    return draw


# ---- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [("BB", "triceps"), ("Bizeps links", "Trizeps"), ("肱二头肌 左", "肱三頭肌"), ("이두근", "трицепс")],
)
def test_labels_in_any_language_are_the_studys_muscles(
    hospital: Hospital, study: StudyConfig, first: str, second: str
) -> None:
    done = run(hospital(both_in_labelme(first, second)), study)
    assert load_mapping(done.mapping, study).masks.muscles == {first: "biceps", second: "triceps"}
    assert not rules(done, "label-unknown", "no-mask")
    row = images(done)[0]
    assert row.mask_label == "1=biceps;2=triceps"
    found = drawn(done, study, row)
    assert found.present == {"biceps", "triceps"}
    assert np.mean(found.classes == label_map(ARM)) > 0.99


def test_the_mapping_counts_the_labels(hospital: Hospital, study: StudyConfig) -> None:
    def draw(source: Path, name: str, k: int) -> None:
        both_in_labelme("BB", "triceps", **({"Mueller": [polygon((5, 5, 3, 3))]} if k == 1 else {}))(source, name, k)

    done = run(hospital(draw, people=3), study)
    text = done.mapping.read_text(encoding="utf-8")
    assert '"BB" = "biceps"  # in 3 masks\n' in text
    assert '# "Mueller" = ""  # in 1 mask: take the first # away, and say which muscle it is\n' in text
    assert table(done.private / "labels.csv")[2] == {"label": "Mueller", "masks": "1", "alone": "0", "muscle": "?"}


def test_a_label_that_nobody_named_keeps_its_mask_out_and_only_that(hospital: Hospital, study: StudyConfig) -> None:
    def draw(source: Path, name: str, k: int) -> None:
        both_in_labelme("BB", "triceps" if k else "Mueller")(source, name, k)

    done = run(hospital(draw), study)
    assert [bool(row.mask) for row in images(done)].count(True) == 1
    assert done.counts["images copied"] == 2
    of_image, of_label = rules(done, "label-unknown")
    assert (of_image.file, of_label.file, of_label.row) == ("places.csv", "labels.csv", 3)
    assert "masks.muscles" in of_image.remedy
    assert "Mueller" not in "\n".join(map(str, [*done.findings, *lines(done)]))  # it may be a person's name
    assert "Mueller" not in (done.data / "ingest-report.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(("said", "present"), [("triceps", {"biceps", "triceps"}), ("", {"biceps"})])
def test_what_the_mapping_says_is_law_and_is_used_again(
    hospital: Hospital, study: StudyConfig, said: str, present: set[str]
) -> None:
    source = hospital(both_in_labelme("BB", "T-Stück"))
    first = run(source, study)
    assert first.counts["masks copied"] == 0
    corrected(first, ('# "T-Stück" = ""  #', f'"T-Stück" = "{said}"  #'))
    done = run(source, study)
    assert (done.proposed, done.counts["masks copied"], len(rules(done, "label-unknown"))) == (False, 2, 0)
    assert drawn(done, study, images(done)[0]).present == present
    again = run(source, study)
    assert (again.counts["images new"], again.counts["images changed"], again.counts["files removed"]) == (0, 0, 0)


def test_a_mapping_that_renames_a_label_keeps_the_copy_and_changes_the_table(
    hospital: Hospital, study: StudyConfig
) -> None:
    source = hospital(both_in_labelme("BB", "triceps"))
    first = run(source, study)
    corrected(first, ('"triceps" = "triceps"  #', '"triceps" = "rectus_femoris"  #'))
    done = run(source, study)
    assert {row.mask_label for row in images(done)} == {"1=biceps;3=rectus_femoris"}
    assert drawn(done, study, images(done)[0]).present == {"biceps", "rectus_femoris"}


def test_unclear_pixels_teach_nothing(hospital: Hospital, study: StudyConfig) -> None:
    shadow = [[[0, 50], [80, 50], [80, 60], [0, 60]]]
    source = hospital(both_in_labelme("BB", "shadow", shadow=shadow))
    corrected(run(source, study), ('# "shadow" = ""', '"shadow" = "unclear"'))
    done = run(source, study)
    row = images(done)[0]
    assert row.mask_label == "1=biceps;255=unclear"
    classes = drawn(done, study, row).classes
    assert (classes[50:60] == OUTSIDE).all()
    assert (classes[:50] != OUTSIDE).all()


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('"BB" = "bicpes"', "'BB' = 'bicpes' is no muscle of the study; known: biceps, triceps, rectus_femoris"),
        ('"BB" = 1', "masks.muscles.BB"),
    ],
)
def test_a_wrong_muscle_in_the_mapping_is_refused_by_field(
    hospital: Hospital, study: StudyConfig, line: str, named: str
) -> None:
    source = hospital(both_in_labelme("BB", "triceps"))
    corrected(run(source, study), ('"BB" = "biceps"  #', f"{line}  #"))
    with pytest.raises(ConfigError, match=re.escape(named)):
        run(source, study)


# ---- numbers and colours ---------------------------------------------------------------------------------------------


def test_itk_snaps_label_descriptions_name_its_numbers(hospital: Hospital, study: StudyConfig) -> None:
    """7 and 8 mean nothing to the study."""

    def draw(source: Path, name: str, _: int) -> None:
        values = label_map(ARM)
        write_labels(
            source / f"masks/{name}.nii.gz", np.where(values == 1, 8, np.where(values == 2, 7, 0)).astype("u1")
        )
        (source / "labels.txt").write_text(DESCRIPTIONS)

    done = run(hospital(draw), study)
    assert load_mapping(done.mapping, study).masks.muscles == {"7": "triceps", "8": "biceps"}
    assert 'ITK-SNAP\'s label descriptions call it "Bizeps re"' in done.mapping.read_text(encoding="utf-8")
    assert np.array_equal(drawn(done, study, images(done)[0]).classes, label_map(ARM))


def test_numbers_that_nothing_names_are_asked(hospital: Hospital, study: StudyConfig) -> None:
    def draw(source: Path, name: str, _: int) -> None:
        picture = Image.fromarray(label_map(ARM) * 20, "P")
        picture.putpalette([0, 0, 0] + [200, 30, 30] * 255)
        picture.save(source / f"masks/{name}.png")

    source = hospital(draw)
    first = run(source, study)
    assert [f.seen for f in rules(first, "label-unknown") if f.file == "labels.csv"] == [
        "label 20 in 2 masks",
        "label 40 in 2 masks",
    ]
    corrected(first, ('# "20" = ""', '"20" = "biceps"'), ('# "40" = ""', '"40" = "triceps"'))
    done = run(source, study)
    assert np.array_equal(drawn(done, study, images(done)[0]).classes, label_map(ARM))


def test_one_number_alone_is_the_muscle_of_its_image(hospital: Hospital, study: StudyConfig) -> None:
    """Label 1 is the study's biceps, but this hospital draws everything with label 1, and its folder says RF."""

    def draw(source: Path, name: str, _: int) -> None:
        write_labels(source / f"masks/{name}.nii.gz", label_map({1: thigh_of(0)}))

    done = run(hospital(draw, name="RF"), study)
    assert load_mapping(done.mapping, study).masks.muscles == {}
    assert {(row.muscle, row.mask_label) for row in images(done)} == {("rectus_femoris", "3=rectus_femoris")}


def test_colours_of_a_picture_are_asked_for(hospital: Hospital, study: StudyConfig) -> None:
    def draw(source: Path, name: str, _: int) -> None:
        values = label_map(ARM)
        colours = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], dtype=np.uint8)
        Image.fromarray(colours[values]).save(source / f"masks/{name}.png")

    source = hospital(draw)
    first = run(source, study)
    assert first.counts["masks copied"] == 0
    corrected(first, ('# "#ff0000" = ""', '"#ff0000" = "biceps"'), ('# "#0000ff" = ""', '"#0000ff" = "triceps"'))
    done = run(source, study)
    assert np.array_equal(drawn(done, study, images(done)[0]).classes, label_map(ARM))


# ---- one mask for each muscle ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place", ["masks/{name}_{muscle}.png", "masks/{muscle}/{name}.png", "masks/{muscle}-{name}.png"]
)
def test_a_mask_for_each_muscle_becomes_one(hospital: Hospital, study: StudyConfig, place: str) -> None:
    def draw(source: Path, name: str, k: int) -> None:
        for number, muscle in ((1, "biceps"), (2, "Triceps")):
            if k == 1 and muscle == "Triceps":
                continue
            path = source / place.format(name=name, muscle=muscle)
            path.parent.mkdir(exist_ok=True, parents=True)
            Image.fromarray((label_map({number: ARM[number]}) > 0).astype(np.uint8) * 255).save(path)

    done = run(hospital(draw, people=3), study)
    assert not rules(done, "mask-alone", "no-mask", "label-unknown")
    found = sorted((row.mask_label, row.annotated) for row in images(done))
    assert found == [("1=biceps", ("biceps",)), *[("1=biceps;2=triceps", ("biceps", "triceps"))] * 2]
    whole = next(row for row in images(done) if "triceps" in row.mask_label)
    assert np.array_equal(drawn(done, study, whole).classes, label_map(ARM))


def test_an_empty_mask_of_a_muscle_says_that_it_is_not_there(hospital: Hospital, study: StudyConfig) -> None:
    def draw(source: Path, name: str, _: int) -> None:
        for number, muscle in ((1, "biceps"), (2, "triceps")):
            values = label_map({1: ARM[1]} if number == 1 else {})
            Image.fromarray(values).save(source / f"masks/{name}_{muscle}.png")

    done = run(hospital(draw), study)
    row = images(done)[0]
    assert (row.mask_label, row.annotated) == ("1=biceps", ("biceps", "triceps"))
    assert drawn(done, study, row).annotated == {"biceps", "triceps"}


def test_masks_of_two_muscles_that_contradict_each_other_stay_out(hospital: Hospital, study: StudyConfig) -> None:
    def draw(source: Path, name: str, _: int) -> None:
        for muscle in ("biceps", "triceps"):
            Image.fromarray(label_map({1: ARM[1]})).save(source / f"masks/{name}_{muscle}.png")

    done = run(hospital(draw), study)
    [finding] = rules(done, "overlapping-muscles")
    assert "biceps and triceps overlap by" in finding.seen
    assert not any(row.mask for row in images(done))


def test_masks_that_contradict_each_other_are_told_where_one_muscle_is_asked_for(
    hospital: Hospital, study: StudyConfig
) -> None:
    def draw(source: Path, name: str, _: int) -> None:
        for muscle in ("biceps", "triceps"):
            Image.fromarray(label_map({1: ARM[1]})).save(source / f"masks/{name}_{muscle}.png")

    assert study.segmentation is not None
    asked = study.model_copy(update={"segmentation": study.segmentation.model_copy(update={"classes": "asked"})})
    source = hospital(draw)
    corrected(run(source, asked), ('muscle = ""', 'muscle = "biceps"'))
    done = run(source, asked)
    [finding] = rules(done, "overlapping-muscles")
    assert "biceps and triceps overlap by" in finding.seen
    assert all(row.mask for row in images(done)), "the image's own muscle is taken as it is drawn"


def test_who_draws_every_muscle_says_so_once(hospital: Hospital, study: StudyConfig) -> None:
    source = hospital(both_in_labelme("BB", "triceps"))
    corrected(run(source, study), ("annotated = []", 'annotated = ["biceps", "triceps", "RF"]'))
    assert {row.annotated for row in images(run(source, study))} == {("biceps", "triceps", "rectus_femoris")}


def test_a_list_of_images_says_what_was_looked_for(hospital: Hospital, study: StudyConfig) -> None:
    def draw(source: Path, name: str, k: int) -> None:
        write_labelme(source / f"masks/{name}.json", {"BB": [polygon(ARM[1])]})
        cells = [(f"images/K00{j}_arm.png", f"K00{j}", "biceps; RF" if j else "") for j in range(2)]
        write_csv(source / "list.csv", ("image", "participant_id", "annotated"), cells)

    done = run(hospital(draw), study)
    assert sorted(row.annotated for row in images(done)) == [(), ("biceps", "rectus_femoris")]


# ---- faults ----------------------------------------------------------------------------------------------------------


def test_an_outline_that_crosses_itself_is_refused_before_it_is_pixels(hospital: Hospital, study: StudyConfig) -> None:
    """As pixels nobody could see it any more."""
    bow = [[[10, 10], [60, 40], [60, 10], [10, 40]]]
    done = run(hospital(both_in_labelme("BB", "triceps", RF=bow)), study)
    [finding] = rules(done, "crossed-outline")
    assert "label RF, shape 3: the outline crosses itself once" in finding.seen
    assert not any(row.mask for row in images(done))


def test_an_export_without_masks_is_told_in_a_study_of_muscles(hospital: Hospital, study: StudyConfig) -> None:
    done = run(hospital(lambda *_: None), study)
    assert [f.seen[:7] for f in rules(done, "no-mask")] == ["2 files"]


def test_a_stopped_run_leaves_no_table_and_goes_on(hospital: Hospital, study: StudyConfig) -> None:
    source = hospital(both_in_labelme("BB", "triceps"), people=4)

    def stop(done: int, _: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(source, study, progress=stop)
    assert not (source.parent / "data/images.csv").exists()
    done = run(source, study)
    assert done.counts["masks copied"] == 4
    assert not list(done.data.rglob("*.part"))
    other = source.parent / "straight"
    shutil.copytree(source, other / "export")
    straight = run(other / "export", study)
    columns = ("mask_label", "annotated", "muscle")
    assert [[getattr(r, c) for c in columns] for r in images(done)] == [
        [getattr(r, c) for c in columns] for r in images(straight)
    ]


def test_the_report_holds_counts_of_muscles(hospital: Hospital, study: StudyConfig) -> None:
    done = run(hospital(both_in_labelme("BB", "triceps")), study)
    counts = json.loads((done.data / "ingest-report.json").read_text(encoding="utf-8"))["counts"]
    assert {k: v for k, v in counts.items() if k.startswith("drawn")} == {
        "drawn: biceps": 2,
        "drawn: triceps": 2,
        "drawn: rectus_femoris": 0,
    }
    assert "drawn: biceps on 2, triceps on 2, rectus_femoris on 0 images" in lines(done)


def test_an_outline_that_names_another_image_is_of_nobody(hospital: Hospital, study: StudyConfig) -> None:
    """K001's file says that it was drawn on K000's image; the picture inside is never looked at."""

    def draw(source: Path, name: str, k: int) -> None:
        path = write_labelme(source / f"masks/{name}.json", {"BB": [polygon(ARM[1])]})
        drawn_on = "K000_arm" if k < 2 else f"scan_{k}"  # an unknown name is what renaming leaves behind
        page = json.loads(path.read_text()) | {"imagePath": f"..\\images\\{drawn_on}.png", "imageData": "AAAA" * k}
        path.write_text(json.dumps(page))

    done = run(hospital(draw, people=3), study)
    [finding] = rules(done, "mask-of-another-image")
    assert finding.seen.startswith("1 file (row ")
    assert [row["path"] for row in table(done.private / "places.csv") if row["rule"] == "mask-of-another-image"] == [
        "masks/K001_arm.json"
    ]
    assert (done.counts["masks copied"], len(rules(done, "mask-alone"))) == (2, 0)


def alone(label: str) -> Callable[[Path, str, int], None]:
    """One outline in each file, of the biceps."""
    return lambda source, name, _: write_labelme(source / f"masks/{name}.json", {label: [polygon(ARM[1])]})


@pytest.mark.parametrize("label", ["VL", "Vastus lateralis", "Trizeps", "三头肌"])
def test_a_name_of_another_muscle_is_never_taken_for_the_images(
    hospital: Hospital, study: StudyConfig, label: str
) -> None:
    source = hospital(alone(label), name="biceps")
    first = run(source, study)
    text = re.sub(r'(?m)^"(VL|Vastus lateralis|Trizeps|三头肌)" = .*$', "", first.mapping.read_text(encoding="utf-8"))
    first.mapping.write_text(text, encoding="utf-8")  # as if the label had come after the mapping
    done = run(source, study)
    assert not any(row.mask for row in images(done))
    assert rules(done, "label-unknown")


def test_an_unknown_word_alone_is_taken_for_the_images_muscle_and_told(hospital: Hospital, study: StudyConfig) -> None:
    done = run(hospital(alone("ROI"), name="biceps"), study)
    assert all(row.mask_label == "1=biceps" for row in images(done))
    [note] = rules(done, "label-taken")
    assert (note.severity, note.file) == ("note", "labels.csv")
    assert "taken for the muscle that the image is of" in note.seen


def test_a_number_that_itk_snap_calls_another_muscle_does_not_matter(hospital: Hospital, study: StudyConfig) -> None:
    def draw(source: Path, name: str, _: int) -> None:
        write_labels(source / f"masks/{name}.nii.gz", label_map({7: ARM[1]}))
        (source / "labels.txt").write_text(DESCRIPTIONS.replace("Trizeps re", "Vastus lateralis re"))

    done = run(hospital(draw, name="biceps"), study)
    assert '\n"7" = ""  # in 2 masks; ITK-SNAP' in done.mapping.read_text(encoding="utf-8")
    assert not any(row.mask for row in images(done))


def test_a_file_named_after_an_image_that_is_no_labelme_file_is_a_warning(
    hospital: Hospital, study: StudyConfig
) -> None:
    def draw(source: Path, name: str, k: int) -> None:
        both_in_labelme("BB", "triceps")(source, name, k)
        path = source / f"masks/{name}.json"
        path.write_text(path.read_text()[:200])
        (source / "settings.json").write_text("{}")

    done = run(hospital(draw), study)
    [warning], [note] = rules(done, "not-labelme"), rules(done, "not-understood")
    assert (warning.severity, warning.seen[:7]) == ("warning", "2 files")
    assert note.seen.startswith("1 file ")


def test_what_is_to_be_done_is_said_in_words_of_the_mapping(hospital: Hospital, study: StudyConfig) -> None:
    done = run(hospital(lambda source, name, _: write_labelme(source / f"masks/{name}.json", {})), study)
    [finding] = rules(done, "empty-mask")
    assert "masks.annotated of the mapping" in finding.remedy
    assert "images.csv" not in finding.remedy
    assert "columns of the study" not in lines(done)[0], "this study has none"


def test_corrected_results_of_segment_come_back(hospital: Hospital, study: StudyConfig) -> None:
    """Three formats of one mask: which was corrected is for a person to say. The tissue to draw on is no mask."""

    def draw(source: Path, name: str, _: int) -> None:
        base, classes = source / "masks" / f"{name}.png", label_map(ARM)
        write_nifti(base.with_name(f"{name}.png.nii.gz"), classes)
        write_png(base.with_name(f"{name}.png.png"), classes)
        outlines = base.with_name(f"{name}.png.json")
        write_labelme(outlines, {"biceps": [polygon(ARM[1])], "triceps": [polygon(ARM[2])]})
        page = json.loads(outlines.read_text()) | {"imagePath": f"../images/{name}.png"}
        outlines.write_text(json.dumps(page))
        Image.fromarray(classes).save(base.with_name(f"{name}.png.tissue.png"))
        (source / "itk-snap-labels.txt").write_text(label_descriptions(["biceps", "triceps"]))

    source = hospital(draw)
    first = run(source, study)
    assert [f.seen[:7] for f in rules(first, "mask-twice")] == ["6 files"]
    assert "images.skip" in rules(first, "mask-twice")[0].remedy
    assert not rules(first, "mask-alone", "table")
    corrected(first, ("skip = []", 'skip = ["**/masks/**.nii.gz", "**/masks/**.png"]'))
    done = run(source, study)
    assert done.counts["masks copied"] == 2
    assert np.mean(drawn(done, study, images(done)[0]).classes == label_map(ARM)) > 0.99
