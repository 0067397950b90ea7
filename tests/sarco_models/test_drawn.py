"""What a person has drawn is what is learned: muscles by name, pieces joined, and no guess where it is not clear."""

import json
from base64 import b64encode
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from sarco_models.drawn import Drawn, read_drawn
from sarco_models.errors import Finding, MaskError
from sarco_models.frames import Frame
from sarco_models.segmentation import OUTSIDE, SegmentationConfig

SHAPE = (80, 100)
MUSCLES: list[dict[str, Any]] = [
    {"name": "biceps", "labels": ["1", "#ff0000", "BB", "肱二头肌"]},
    {"name": "triceps", "labels": ["2", "#00ff00"]},
    {"name": "rectus_abdominis", "labels": ["RA", "3"]},
]
ALL = SegmentationConfig.model_validate_json(json.dumps({"muscles": MUSCLES}))
ONE = SegmentationConfig.model_validate_json(json.dumps({"muscles": MUSCLES, "classes": "one"}))


@pytest.fixture
def frame() -> Frame:
    return Frame(np.zeros(SHAPE, np.uint8), (0.2, 0.2), "", (0, 0), SHAPE)


def box(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def shape(label: str, points: Any, kind: str = "polygon") -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}}


def labelme(folder: Path, *shapes: dict[str, Any], size: tuple[int, int] = SHAPE) -> Path:
    path = folder / "m.json"
    page = {"version": "5.5.0", "shapes": shapes, "imageHeight": size[0], "imageWidth": size[1], "imageData": None}
    path.write_text(json.dumps(page))
    return path


def label_map(folder: Path, values: Any, name: str = "m.nii.gz", spacing: tuple[float, ...] = ()) -> Path:
    image: Any = sitk.GetImageFromArray(np.asarray(values, dtype=np.uint8))
    if spacing:
        image.SetSpacing(spacing)
    sitk.WriteImage(image, str(folder / name))
    return folder / name


def two_blocks() -> Any:
    values = np.zeros(SHAPE, np.uint8)
    values[10:30, 10:50] = 1
    values[40:70, 20:80] = 2
    return values


def read(path: Path, frame: Frame, config: SegmentationConfig = ALL, **said: Any) -> tuple[Drawn, tuple[Finding, ...]]:
    return read_drawn(path, frame, config, **{"muscle": "", "label": "", "annotated": ()} | said)


def refused(path: Path, frame: Frame, config: SegmentationConfig = ALL, **said: Any) -> dict[str, Finding]:
    with pytest.raises(MaskError) as error:
        read(path, frame, config, **said)
    for finding in error.value.findings:
        assert finding.file == path.name
        assert finding.severity == "error"
        assert finding.remedy
    return {finding.rule: finding for finding in error.value.findings}


# ---- several labels --------------------------------------------------------------------------------------------------


def test_numbers_of_a_label_map_are_the_studys_muscles(tmp_path: Path, frame: Frame) -> None:
    values = two_blocks()
    values[75:78, 90:95] = 3
    drawn, findings = read(label_map(tmp_path, values), frame)
    np.testing.assert_array_equal(drawn.classes, values)
    assert drawn.present == {"biceps", "triceps", "rectus_abdominis"}
    assert findings == ()


def test_words_are_found_whatever_their_writing_and_side(tmp_path: Path, frame: Frame) -> None:
    names = ["Biceps", "biceps_left", "BB right", "肱二头肌", "left RA", "RA-R"]
    places = [box(5 + 15 * k, 10, 15 + 15 * k, 30) for k in range(6)]
    drawn, findings = read(labelme(tmp_path, *(shape(n, p) for n, p in zip(names, places, strict=True))), frame)
    assert findings == ()
    assert drawn.present == {"biceps", "rectus_abdominis"}
    assert (drawn.classes == 1).sum() == 4 * 200
    assert (drawn.classes == 3).sum() == 2 * 200


def test_pieces_of_one_muscle_join(tmp_path: Path, frame: Frame) -> None:
    """Left and right of the linea alba, and a third piece that overlaps the second: its pixels count once."""
    pieces = [box(5, 20, 40, 40), box(60, 20, 90, 40), box(80, 20, 95, 40)]
    drawn, _ = read(labelme(tmp_path, *(shape("RA", p) for p in pieces)), frame)
    assert (drawn.classes == 3).sum() == (35 + 35) * 20


def test_colours_of_a_picture_are_muscles(tmp_path: Path, frame: Frame) -> None:
    picture = np.zeros((*SHAPE, 3), np.uint8)
    picture[10:30, 10:50] = (255, 0, 0)
    picture[40:70, 20:80] = (0, 255, 0)
    Image.fromarray(picture).save(tmp_path / "m.png")
    drawn, _ = read(tmp_path / "m.png", frame)
    np.testing.assert_array_equal(drawn.classes, two_blocks())


def test_a_map_of_the_stored_frame_is_cut_to_the_region(tmp_path: Path) -> None:
    frame = Frame(np.zeros((64, 90), np.uint8), None, "", (8, 5), SHAPE)
    drawn, _ = read(label_map(tmp_path, two_blocks()), frame)
    np.testing.assert_array_equal(drawn.classes, two_blocks()[8:72, 5:95])


# ---- one label -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["muscle", "255", "roi"])
def test_a_single_label_of_any_name_is_the_rows_muscle(tmp_path: Path, frame: Frame, name: str) -> None:
    path = labelme(tmp_path, shape(name, box(10, 10, 50, 30)))
    drawn, findings = read(path, frame, muscle="Triceps")
    assert drawn.present == drawn.annotated == {"triceps"}
    assert (drawn.classes == 2).sum() == 800
    assert findings == ()
    assert set(refused(path, frame)) == {"unknown-label"}


def test_a_single_label_of_another_muscle_is_a_contradiction(tmp_path: Path, frame: Frame) -> None:
    """An image of triceps with biceps drawn: either cell or label is wrong, and mask_label settles it."""
    for config in (ALL, ONE):
        path = label_map(tmp_path, two_blocks() == 1)
        finding = refused(path, frame, config, muscle="triceps")["another-muscle"]
        assert "an image of triceps, on which biceps is drawn" in finding.seen
        assert "mask_label" in finding.remedy
        drawn, _ = read(path, frame, config, muscle="triceps", label="1")
        assert drawn.present == {"triceps"}
        assert (drawn.classes == drawn.number_of("triceps", config)).sum() == 800


def test_another_muscle_alone_is_fine_where_the_rows_own_was_not_looked_for(tmp_path: Path, frame: Frame) -> None:
    drawn, _ = read(label_map(tmp_path, two_blocks() == 1), frame, muscle="triceps", annotated=("biceps",))
    assert drawn.annotated == drawn.present == {"biceps"}


def test_a_label_that_is_said_to_be_the_rows_muscle_is_not_read_as_another(tmp_path: Path, frame: Frame) -> None:
    """mask_label 1 is triceps here, though the study calls it biceps; label 2, else triceps, is not joined to it."""
    drawn, (warning,) = read(label_map(tmp_path, two_blocks()), frame, muscle="triceps", label="1")
    np.testing.assert_array_equal(drawn.classes == 2, two_blocks() == 1)
    assert (warning.severity, warning.rule) == ("warning", "unknown-label"), "what 2 is there nobody knows"
    assert set(refused(label_map(tmp_path, two_blocks()), frame, muscle="triceps", label="7")) == {"label"}
    path = labelme(tmp_path, shape("roi", box(10, 10, 50, 30)))
    assert set(refused(path, frame, label="roi")) == {"unknown-label"}


def test_pieces_join_the_label_that_is_named(tmp_path: Path, frame: Frame) -> None:
    pieces = [shape("RA left", box(5, 20, 40, 40)), shape("RA right", box(60, 20, 90, 40))]
    path = labelme(tmp_path, *pieces, shape("BB", box(5, 50, 40, 70)))
    for config, others in ((ALL, 35 * 20), (ONE, 0)):
        drawn, findings = read(path, frame, config, muscle="rectus abdominis", label="RA left")
        number = drawn.number_of("rectus_abdominis", config)
        assert (drawn.classes == number).sum() == 65 * 20
        assert ((drawn.classes > 0) & (drawn.classes != number)).sum() == others
        assert findings == ()


def test_what_labels_are_called_is_told_as_the_caller_wants_it(tmp_path: Path, frame: Frame) -> None:
    """A label may be anything, a person's name as well."""
    said = {"shown": lambda label: label if label in ("BB", "RA") else "***", "muscle": "biceps"}
    own, other = shape("Anna M.", box(1, 1, 40, 40)), shape("Anna K.", box(45, 45, 70, 70))
    bow = shape("Anna M.", BOW_TIE)
    cases: list[tuple[Any, dict[str, Any]]] = [
        ([own, other], {"config": ONE}), ([own, other], {}), ([own, other], {"label": "Anna L."}),
        ([bow], {}), ([own, other], {"label": "Anna M.", "muscle": ""}),
        ([own], {"annotated": ("Anna",), "muscle": ""}),
    ]  # fmt: skip
    for shapes, more in cases:
        found = refused(labelme(tmp_path, *shapes), frame, **said | more)
        assert all("Anna" not in str(finding) for finding in found.values()), found
        assert any("***" in str(finding) for finding in found.values())


def test_one_class_holds_the_rows_muscle_alone(tmp_path: Path, frame: Frame) -> None:
    path = label_map(tmp_path, two_blocks())
    drawn, findings = read(path, frame, ONE, muscle="triceps")
    np.testing.assert_array_equal(drawn.classes, two_blocks() == 2)
    assert drawn.annotated == {"triceps"}
    assert findings == ()
    assert set(refused(path, frame, ONE)) == {"muscle-unknown"}
    several = labelme(tmp_path, shape("a", box(1, 1, 9, 9)), shape("b", box(20, 20, 30, 30)))
    assert set(refused(several, frame, ONE, muscle="triceps")) == {"several-labels"}
    drawn, _ = read(several, frame, ONE, muscle="triceps", label="b")
    assert (drawn.classes == 1).sum() == 100


# ---- what was looked for ---------------------------------------------------------------------------------------------


def test_what_was_looked_for_is_said_or_is_what_is_there(tmp_path: Path, frame: Frame) -> None:
    path = label_map(tmp_path, two_blocks())
    assert read(path, frame)[0].annotated == {"biceps", "triceps"}
    drawn, findings = read(path, frame, annotated=("RA", "biceps", "deltoid"))
    assert drawn.annotated == {"biceps", "triceps", "rectus_abdominis"}  # what is drawn was looked for
    (told,) = findings
    assert (told.severity, told.rule, told.field) == ("warning", "annotated", "annotated")
    assert "deltoid" in told.seen


def test_an_empty_mask_is_a_muscle_that_is_not_there_where_somebody_looked_for_it(tmp_path: Path, frame: Frame) -> None:
    for path in (label_map(tmp_path, np.zeros(SHAPE)), labelme(tmp_path)):
        drawn, findings = read(path, frame, muscle="biceps", annotated=("biceps",))
        assert not drawn.classes.any()
        assert drawn.annotated == {"biceps"}
        assert drawn.present == frozenset()
        assert findings == ()
        assert set(refused(path, frame, muscle="biceps")) == {"empty-mask"}


# ---- bad input -------------------------------------------------------------------------------------------------------

BOW_TIE = [[10, 10], [60, 40], [60, 10], [10, 40]]


@pytest.mark.parametrize(
    ("points", "kind", "told"),
    [
        ([[10, 10], [50, 30]], "polygon", ("open-outline", "a polygon of 2 points")),
        ([[10, 10], [50, 30], [60, 10]], "linestrip", ("open-outline", "a linestrip, which bounds no area")),
        ([[10, 10], [50, 30]], "line", ("open-outline", "a line, which bounds no area")),
        (BOW_TIE, "polygon", ("crossed-outline", "crosses itself once; 100% of its area")),
    ],
)
def test_outlines_that_bound_no_clear_area_are_refused(
    tmp_path: Path, frame: Frame, points: Any, kind: str, told: tuple[str, str]
) -> None:
    rule, words = told
    sound = shape("triceps", box(20, 45, 80, 70))
    path = labelme(tmp_path, sound, shape("biceps", points, kind))
    finding = refused(path, frame)[rule]
    assert finding.seen.startswith("label biceps, shape 2: ")
    assert words in finding.seen
    # Of a label that the study is not about, nobody minds.
    path = labelme(tmp_path, sound, shape("thickness", points, kind))
    assert (read(path, frame)[0].classes == 2).sum() == 60 * 25
    # A lone line is no empty mask, whatever it is called.
    path = labelme(tmp_path, shape("outline", points, kind))
    assert rule in refused(path, frame, muscle="biceps", annotated=("biceps",))


def test_shapes_of_an_unknown_kind_are_refused_as_such(tmp_path: Path, frame: Frame) -> None:
    finding = refused(labelme(tmp_path, shape("biceps", [[10, 10], [50, 30]], "oriented_rectangle")), frame)["labelme"]
    assert finding.seen == "label biceps: a shape of type oriented_rectangle"
    assert finding.remedy == "draw it as a polygon"


def ai_mask(values: Any, left: int, top: int) -> dict[str, Any]:
    """As LabelMe 5.3 and later keep what their AI tool has found: a PNG between two corners, both included."""
    buffer = BytesIO()
    Image.fromarray(values > 0).save(buffer, "PNG")
    height, width = values.shape
    corners = [[float(left), float(top)], [float(left + width - 1), float(top + height - 1)]]
    return shape("biceps", corners, "mask") | {"mask": b64encode(buffer.getvalue()).decode()}


def test_labelmes_ai_masks_are_read_to_the_pixel(tmp_path: Path, frame: Frame) -> None:
    values = two_blocks()
    path = labelme(tmp_path, ai_mask(values[8:32, 10:50] == 1, 10, 8), shape("triceps", box(20, 40, 80, 70)))
    assert np.array_equal(read(path, frame)[0].classes, values)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (shape("biceps", [[10, 10], [50, 30]], "mask"), "a mask that is no PNG"),
        (shape("biceps", [[10, 10], [50, 30]], "mask") | {"mask": "R0lGODdhAQ"}, "a mask that is no PNG"),
        (ai_mask(np.ones((30, 30)), 60, 40) | {"points": [[90, 60], [99, 79]]}, "a mask of 30 x 30"),
    ],
)
def test_ai_masks_that_fit_nowhere_are_refused(tmp_path: Path, frame: Frame, mask: Any, words: str) -> None:
    finding = refused(labelme(tmp_path, mask), frame)["labelme"]
    assert finding.seen == f"label biceps: {words}"
    assert finding.remedy == "draw it as a polygon"


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("kind", ["polygon", "rectangle", "circle"])
def test_an_outline_in_an_outline_is_no_hole_and_not_filled_in_silence(
    tmp_path: Path, frame: Frame, kind: str, order: int
) -> None:
    points = {"polygon": box(30, 30, 40, 40), "rectangle": [[30, 30], [40, 40]], "circle": [[35, 35], [40, 35]]}[kind]
    shapes = [shape("biceps", box(10, 10, 60, 60)), shape("biceps", points, kind)][::order]
    finding = refused(labelme(tmp_path, *shapes), frame)["outline-inside"]
    assert ("inside" if order == 1 else "around") in finding.seen
    assert finding.seen.startswith("label biceps, shape 2: ")
    assert "slit" in finding.remedy


def test_outlines_side_by_side_and_specks_within_are_read(tmp_path: Path, frame: Frame) -> None:
    shapes = [shape("biceps", box(10, 10, 40, 40)), shape("biceps", box(50, 10, 90, 40))]
    assert (read(labelme(tmp_path, *shapes), frame)[0].classes == 1).sum() == 30 * 30 + 40 * 30
    drawn, findings = read(labelme(tmp_path, *shapes, shape("biceps", box(20, 20, 22, 22))), frame)
    assert (drawn.classes == 1).sum() == 30 * 30 + 40 * 30
    assert [(f.rule, f.severity) for f in findings] == [("outline-inside", "note")]


def test_an_ai_mask_need_not_fill_its_box(tmp_path: Path, frame: Frame) -> None:
    """What lies in the box beside it is another piece of the muscle."""
    values = np.zeros((30, 30))
    values[:, :10] = 1
    path = labelme(tmp_path, ai_mask(values, 10, 10), shape("biceps", box(25, 15, 35, 30)))
    assert (read(path, frame)[0].classes == 1).sum() == 300 + 150


def test_an_outline_beyond_the_picture_was_drawn_elsewhere(tmp_path: Path, frame: Frame) -> None:
    finding = refused(labelme(tmp_path, shape("biceps", box(60, 10, 130, 40))), frame)["outline-beyond"]
    assert finding.seen.startswith("label biceps, shape 1: a corner at x 130, y 10, 30 pixels beyond the picture, ")
    assert finding.seen.endswith("100 wide and 80 high")
    assert finding.expected == "at most 2 pixels"
    slip = labelme(tmp_path, shape("biceps", box(60, -1.5, 101, 40)))
    assert (read(slip, frame)[0].classes == 1).sum() == 40 * 40


@pytest.mark.parametrize("point", [["a", 4], [1], 5, None, [float("nan"), 1], [True, 1]])
def test_a_point_that_is_none_is_named(tmp_path: Path, frame: Frame, point: Any) -> None:
    sound = shape("triceps", box(20, 45, 80, 70))
    path = labelme(tmp_path, sound, shape("biceps", [[1, 2], [9, 9], point, [3, 20]]))
    finding = refused(path, frame)["labelme"]
    assert finding.seen == "label biceps, shape 2: point 3 of 4 is no x and y"


def test_a_file_that_was_cut_short_is_said_to_be(tmp_path: Path, frame: Frame) -> None:
    path = labelme(tmp_path, shape("biceps", box(10, 10, 40, 40)))
    path.write_text(path.read_text()[:-40])
    assert refused(path, frame)["labelme"].seen == "JSON that is damaged or cut short"


def test_a_volume_of_one_slice_along_another_axis_says_how_to_turn_it(tmp_path: Path, frame: Frame) -> None:
    finding = refused(label_map(tmp_path, two_blocks()[:, None]), frame)["mask-slices"]
    assert finding.seen == "a volume of 100 x 1 x 80"
    assert "the axis of length 1 last" in finding.remedy


# ---- what the row says of each label ---------------------------------------------------------------------------------


def test_the_row_says_what_each_number_is(tmp_path: Path, frame: Frame) -> None:
    """1 and 2 are the study's biceps and triceps; here they are not."""
    path = label_map(tmp_path, two_blocks())
    drawn, findings = read(path, frame, label="1 = RA; 2=triceps;")
    assert drawn.present == {"rectus_abdominis", "triceps"}
    assert (drawn.classes[10:30, 10:50] == 3).all()
    assert not findings


def test_what_is_unclear_is_neither_muscle_nor_background(tmp_path: Path, frame: Frame) -> None:
    drawn, _ = read(label_map(tmp_path, two_blocks()), frame, label="1=unclear;2=triceps")
    assert drawn.present == {"triceps"}
    assert (drawn.classes == OUTSIDE).sum() == 20 * 40


def test_a_label_that_does_not_matter_may_look_as_it_likes(tmp_path: Path, frame: Frame) -> None:
    shapes = [shape("biceps", BOW_TIE), shape("triceps", box(20, 45, 80, 70))]
    drawn, findings = read(labelme(tmp_path, *shapes), frame, label="biceps=; triceps=triceps")
    assert drawn.present == {"triceps"}
    assert not findings


def test_a_label_that_the_row_forgets_is_told(tmp_path: Path, frame: Frame) -> None:
    path = label_map(tmp_path, two_blocks())
    _, [finding] = read(path, frame, label="2=triceps")
    assert (finding.rule, finding.seen) == ("unknown-label", "label 1, unknown to the study")
    finding = refused(path, frame, label="1=soleus;2=gastrocnemius")["unknown-label"]
    assert finding.seen == "labels 1, 2, unknown to the study"
    assert "mask_label" in finding.remedy


def test_of_one_class_the_row_says_which_label_is_the_images_muscle(tmp_path: Path, frame: Frame) -> None:
    drawn, _ = read(label_map(tmp_path, two_blocks()), frame, ONE, label="1=RA;2=triceps", muscle="triceps")
    assert np.array_equal(drawn.classes == 1, two_blocks() == 2)


def test_an_unknown_label_is_named_where_the_images_own_muscle_is_absent(tmp_path: Path, frame: Frame) -> None:
    """It may be a misspelled one."""
    shapes = [shape("bicpes", box(10, 10, 40, 30)), shape("triceps", box(20, 45, 80, 70))]
    finding = refused(labelme(tmp_path, *shapes), frame, muscle="biceps")["another-muscle"]
    assert "label bicpes, unknown to the study" in finding.seen


def test_all_faults_of_a_file_are_told_at_once(tmp_path: Path, frame: Frame) -> None:
    shapes = [shape("biceps", BOW_TIE), shape("triceps", [[1, 1], [2, 2]]), shape("RA", box(20, 50, 50, 70))]
    found = refused(labelme(tmp_path, *shapes), frame)
    assert set(found) == {"crossed-outline", "open-outline"}


def test_a_loop_of_a_slipping_hand_is_told_and_forgiven(tmp_path: Path, frame: Frame) -> None:
    points = [[10, 10], [60, 10], [60, 40], [30, 40], [30.5, 40.8], [29.5, 40.8], [30.2, 39.8], [10, 40]]
    drawn, (note,) = read(labelme(tmp_path, shape("biceps", points)), frame)
    assert (note.severity, note.rule) == ("note", "crossed-outline")
    assert (drawn.classes == 1).sum() == pytest.approx(1500, abs=5)


def test_labels_that_the_study_does_not_know_are_left_out(tmp_path: Path, frame: Frame) -> None:
    shapes = [shape("femur", box(5, 50, 40, 70)), shape("BB", box(10, 10, 50, 30))]
    drawn, (warning,) = read(labelme(tmp_path, *shapes), frame)
    assert (warning.severity, warning.rule) == ("warning", "unknown-label")
    assert "label femur, unknown to the study" in warning.seen
    assert set(np.unique(drawn.classes)) == {0, 1}
    finding = refused(labelme(tmp_path, shapes[0], shape("skin", box(1, 1, 9, 9))), frame, muscle="biceps")[
        "unknown-label"
    ]
    assert "labels femur, skin, unknown" in finding.seen


def test_a_mask_of_another_size_is_refused_once(tmp_path: Path, frame: Frame) -> None:
    values = np.zeros((60, 70), np.uint8)
    values[:20], values[30:] = 1, 2
    finding = refused(label_map(tmp_path, values), frame)["mask-size"]
    assert "60 x 70" in finding.seen


def test_placing_and_spacing_are_those_of_every_mask(tmp_path: Path, frame: Frame) -> None:
    assert "mask-spacing" in refused(label_map(tmp_path, two_blocks(), spacing=(0.5, 0.5)), frame)
    stored = Frame(np.zeros((30, 40), np.uint8), None, "", (0, 0), SHAPE)
    found = refused(label_map(tmp_path, two_blocks()), stored)
    assert "label 2: " in found["mask-outside"].seen


def test_muscles_that_overlap_by_a_border_leave_it_out_of_account(tmp_path: Path, frame: Frame) -> None:
    path = labelme(tmp_path, shape("biceps", box(10, 10, 50, 32)), shape("triceps", box(10, 30, 60, 60)))
    drawn, (note,) = read(path, frame)
    assert (note.severity, note.rule) == ("note", "overlap-thin")
    assert (drawn.classes == OUTSIDE).sum() == 40 * 2
    assert (drawn.classes == 1).sum() == 40 * 20
    assert (drawn.classes == 2).sum() == 50 * 30 - 80


def test_muscles_that_overlap_by_more_are_a_contradiction(tmp_path: Path, frame: Frame) -> None:
    path = labelme(tmp_path, shape("biceps", box(10, 10, 50, 40)), shape("triceps", box(10, 25, 60, 60)))
    finding = refused(path, frame)["overlapping-muscles"]
    assert "biceps and triceps overlap by 600 pixels, at most 15 wide" in finding.seen
    # A thin muscle under another is not its border, however thin it is.
    path = labelme(tmp_path, shape("biceps", box(10, 28, 50, 31)), shape("triceps", box(10, 20, 60, 60)))
    assert "overlapping-muscles" in refused(path, frame)


def test_who_is_asked_about_one_muscle_need_not_settle_it_and_is_told(tmp_path: Path, frame: Frame) -> None:
    path = labelme(tmp_path, shape("biceps", box(10, 10, 50, 40)), shape("triceps", box(10, 25, 60, 60)))
    drawn, (warning,) = read(path, frame, ONE, muscle="triceps")
    assert (drawn.classes == 1).sum() == 50 * 35, "as it is drawn"
    assert (warning.severity, warning.rule, warning.file) == ("warning", "overlapping-muscles", "m.json")
    assert "triceps and biceps overlap by 600 pixels" in warning.seen
    assert read(path, frame, ONE, muscle="triceps", label="biceps=triceps;triceps=")[1] == (), "only one is a muscle"
    path = labelme(tmp_path, shape("biceps", box(10, 10, 50, 32)), shape("triceps", box(10, 30, 60, 60)))
    assert read(path, frame, ONE, muscle="triceps")[1] == (), "a border that both share"


def test_damaged_files_are_refused_by_name(tmp_path: Path, frame: Frame) -> None:
    for content in ('{"shapes": [3], "imageHeight": 80, "imageWidth": 100}', "{", "no mask at all"):
        (tmp_path / "m.json").write_text(content)
        with pytest.raises(MaskError) as error:
            read(tmp_path / "m.json", frame)
        assert error.value.findings[0].file == "m.json"
    with pytest.raises(MaskError, match=r"gone\.png: No such file"):
        read(tmp_path / "gone.png", frame)
