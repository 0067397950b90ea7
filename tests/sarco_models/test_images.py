"""What a frame is, whatever its file: the tissue region's grey pixels, its millimetres, and nothing about a person."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

from sarco_models.errors import UnreadableImage
from sarco_models.images import Calibration, Facts, Frame, frame_count, read_image

ROWS, COLUMNS = 60, 80
X0, Y0, X1, Y1 = 12, 9, 70, 50  # x1, y1 exclusive
INSIDE = np.s_[Y0:Y1, X0:X1]
CALIBRATION = Calibration((X0, Y0, X1, Y1), (0.2, 0.1))
PERSON = "SECRET"
PYDICOM_FILES = sorted(p for p in (Path(pydicom.__file__).parent / "data").rglob("*") if p.is_file())


@pytest.fixture
def speckle() -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (ROWS, COLUMNS), dtype=np.uint8)


@pytest.fixture
def smooth() -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    waves: NDArray[np.uint8] = np.rint(127 + 60 * np.sin(rows / 9) + 60 * np.cos(columns / 11)).astype(np.uint8)
    return waves


def region(
    box: tuple[int, int, int, int] = (X0, Y0, X1, Y1), kind: tuple[int, int] = (1, 1), **attributes: Any
) -> Dataset:
    """An item of the ultrasound region sequence; deltas .02 cm per row and .01 cm per column."""
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType = kind
    item.RegionLocationMinX0, item.RegionLocationMinY0 = box[:2]
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = box[2] - 1, box[3] - 1
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
    item.PhysicalDeltaX, item.PhysicalDeltaY = 0.01, 0.02
    for name, value in attributes.items():
        setattr(item, name, value)
    return item


def ultrasound(values: NDArray[Any], photometric: str = "MONOCHROME2", **attributes: Any) -> Dataset:
    """A US image of (rows, columns) or (rows, columns, 3) values, with identifiers wherever scanners put them."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = uid.UltrasoundImageStorage, "1.2.3.4"
    image.PatientName = image.InstitutionName = image.PatientID = image.StudyDescription = PERSON
    image.Manufacturer, image.ManufacturerModelName = " SYN ", "U1"
    image.SequenceOfUltrasoundRegions = [region()]
    image.Rows, image.Columns = values.shape[:2]
    image.SamplesPerPixel, image.PhotometricInterpretation = (3 if values.ndim == 3 else 1), photometric
    image.BitsAllocated = image.BitsStored = 8 * values.dtype.itemsize
    image.HighBit, image.PixelRepresentation = image.BitsStored - 1, 0
    if values.ndim == 3:
        image.PlanarConfiguration = 0
    image.PixelData = values.tobytes()
    for name, value in attributes.items():
        setattr(image, name, value)
    return image


def saved(image: Dataset, path: Path) -> Path:
    image.save_as(path, enforce_file_format=True)
    return path


def frame_of(image: Dataset, folder: Path, **arguments: Any) -> Frame:
    return read_image(saved(image, folder / "frame.dcm"), **arguments)


def encapsulated(image: Dataset, codestream: bytes, syntax: uid.UID) -> Dataset:
    image.file_meta.TransferSyntaxUID = syntax
    image.PixelData = encapsulate([codestream])
    image["PixelData"].is_undefined_length = True
    return image


def picture_bytes(values: NDArray[Any], kind: str, **options: Any) -> bytes:
    stream = BytesIO()
    Image.fromarray(values).save(stream, kind, **options)
    return stream.getvalue()


# ---- DICOM: the pixels -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.RLELossless]
)
def test_native_and_rle_frames_are_exact_inside_the_region(tmp_path: Path, speckle: Any, syntax: uid.UID) -> None:
    image = ultrasound(speckle)
    if syntax.is_compressed:
        image.compress(syntax)
    image.file_meta.TransferSyntaxUID = syntax
    path = tmp_path / "frame.dcm"
    pydicom.dcmwrite(path, image, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
    frame = read_image(path)
    np.testing.assert_array_equal(frame.pixels, speckle[INSIDE])
    assert (frame.origin, frame.stored_shape) == ((Y0, X0), (ROWS, COLUMNS))
    assert frame.mm_per_pixel == pytest.approx((0.2, 0.1))
    assert frame.device == "SYN U1"


def test_text_outside_the_region_never_changes_the_frame(tmp_path: Path, speckle: Any) -> None:
    written = Image.fromarray(speckle)
    ImageDraw.Draw(written).text((0, -2), "DOE JOHN 1950-01-01", fill=255)
    banner = np.array(written)
    banner[INSIDE] = speckle[INSIDE]
    assert not np.array_equal(banner, speckle)
    clean, named = frame_of(ultrasound(speckle), tmp_path), frame_of(ultrasound(banner), tmp_path)
    np.testing.assert_array_equal(clean.pixels, named.pixels)


def test_monochrome1_is_monochrome2_inverted(tmp_path: Path, speckle: Any) -> None:
    inverted = frame_of(ultrasound(speckle, "MONOCHROME1"), tmp_path)
    np.testing.assert_array_equal(inverted.pixels, 255 - frame_of(ultrasound(speckle), tmp_path).pixels)


def grey_ybr(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    neutral = np.full_like(grey, 128)
    return np.stack([grey, neutral, neutral], axis=-1)


def subsampled(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Y1 Y2 Cb Cr per pair of pixels (PS3.3 C.7.6.3.1.2)."""
    pairs = grey.reshape(-1, 2)
    return np.concatenate([pairs, np.full_like(pairs, 128)], axis=1)


def planar(grey: NDArray[np.uint8]) -> Dataset:
    image = ultrasound(np.stack([grey] * 3, axis=-1), "RGB", PlanarConfiguration=1)
    image.PixelData = grey.tobytes() * 3
    return image


def palette(grey: NDArray[np.uint8]) -> Dataset:
    """Indices that run against the grey levels, with the 16-bit table that undoes it."""
    table = (np.arange(255, -1, -1, dtype="<u2") * 257).tobytes()
    image = ultrasound(255 - grey, "PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(image, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(image, f"{colour}PaletteColorLookupTableData", table)
    return image


@pytest.mark.parametrize(
    "coloured",
    [
        lambda grey: ultrasound(np.stack([grey] * 3, axis=-1), "RGB"),
        planar,
        lambda grey: ultrasound(grey_ybr(grey), "YBR_FULL"),
        lambda grey: ultrasound(grey_ybr(grey), "YBR_FULL_422", PixelData=subsampled(grey).tobytes()),
        palette,
        lambda grey: ultrasound(grey.astype(np.uint16) * 257),
        lambda grey: ultrasound(np.stack([grey.astype(np.uint16) * 257] * 3, axis=-1), "RGB"),
    ],
    ids=["rgb", "planar", "ybr_full", "ybr_full_422", "palette", "16-bit", "16-bit rgb"],
)
def test_a_grey_scene_is_the_same_in_every_colour_space(
    tmp_path: Path, speckle: Any, coloured: Callable[[Any], Dataset]
) -> None:
    np.testing.assert_array_equal(frame_of(coloured(speckle), tmp_path).pixels, speckle[INSIDE])


def test_planar_equals_interleaved_in_colour(tmp_path: Path) -> None:
    colours = np.random.default_rng(5).integers(0, 256, (ROWS, COLUMNS, 3), dtype=np.uint8)
    by_plane = ultrasound(colours, "RGB", PlanarConfiguration=1, PixelData=np.moveaxis(colours, -1, 0).tobytes())
    expected = frame_of(ultrasound(colours, "RGB"), tmp_path).pixels
    np.testing.assert_array_equal(frame_of(by_plane, tmp_path).pixels, expected)
    luma = (colours @ [0.299, 0.587, 0.114])[INSIDE]
    assert np.abs(expected - luma).max() <= 1


def test_a_window_shows_deep_pixels_as_the_scanner_meant_them(tmp_path: Path) -> None:
    values = np.linspace(0, 4095, ROWS * COLUMNS).astype(np.uint16).reshape(ROWS, COLUMNS)
    whole = frame_of(ultrasound(values, BitsStored=12, HighBit=11), tmp_path).pixels
    narrow = frame_of(
        ultrasound(values, BitsStored=12, HighBit=11, WindowCenter=2048, WindowWidth=1024), tmp_path
    ).pixels
    np.testing.assert_array_equal(whole, np.rint(values[INSIDE] / 4095 * 255))
    assert narrow.min() == 0
    assert narrow.max() == 255
    ramp = (values[INSIDE].astype(float) - 2047.5) / 1023 + 0.5  # PS3.3 C.11.2.1.2.1
    np.testing.assert_allclose(narrow, (255 * ramp).clip(0, 255), atol=0.5)


@pytest.mark.parametrize(("syntax", "encoder"), [(uid.JPEG2000Lossless, "openjpeg"), (uid.JPEGLSLossless, "jpeg_ls")])
def test_lossless_compression_loses_nothing(tmp_path: Path, speckle: Any, syntax: uid.UID, encoder: str) -> None:
    pytest.importorskip(encoder)
    image = ultrasound(speckle)
    image.compress(syntax)
    np.testing.assert_array_equal(frame_of(image, tmp_path).pixels, speckle[INSIDE])


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "YBR_FULL_422"])
def test_jpeg_baseline_is_close(tmp_path: Path, smooth: Any, photometric: str) -> None:
    stored = smooth if photometric == "MONOCHROME2" else np.stack([smooth] * 3, axis=-1)
    image = encapsulated(
        ultrasound(stored, photometric), picture_bytes(stored, "JPEG", quality=95), uid.JPEGBaseline8Bit
    )
    difference = frame_of(image, tmp_path).pixels.astype(int) - smooth[INSIDE]
    assert np.abs(difference).max() <= 4


def test_jpeg_lossless_needs_gdcm_and_has_it() -> None:
    pytest.importorskip("gdcm")
    lossless = next(p for p in PYDICOM_FILES if p.name == "SC_rgb_jpeg_gdcm.dcm")
    rle = next(p for p in PYDICOM_FILES if p.name == "SC_rgb_rle.dcm")  # the same picture
    whole = Calibration((0, 0, 100, 100), None)  # bars of colour: nobody could say where a picture ends
    np.testing.assert_array_equal(read_image(lossless, whole).pixels, read_image(rle, whole).pixels)


# ---- DICOM: region, spacing, frames ----------------------------------------------------------------------------------


def test_the_largest_two_dimensional_tissue_region_is_chosen(tmp_path: Path, speckle: Any) -> None:
    others = [
        region((0, 0, COLUMNS, ROWS), kind=(3, 3)),  # spectral Doppler
        region((0, 0, COLUMNS, ROWS), kind=(1, 2)),  # colour flow
        region((0, 0, 5, 5)),
        region(),
        region((70, 50, 79, 59)),
    ]
    frame = frame_of(ultrasound(speckle, SequenceOfUltrasoundRegions=others), tmp_path)
    np.testing.assert_array_equal(frame.pixels, speckle[INSIDE])


def without_regions(values: NDArray[Any], **attributes: Any) -> Dataset:
    image = ultrasound(values, **attributes)
    del image.SequenceOfUltrasoundRegions
    return image


def test_without_regions_the_calibration_speaks_or_the_frame_is_whole(tmp_path: Path, speckle: Any) -> None:
    whole = frame_of(without_regions(speckle), tmp_path)
    np.testing.assert_array_equal(whole.pixels, speckle)
    assert whole.mm_per_pixel is None
    calibrated = frame_of(without_regions(speckle), tmp_path, calibration=CALIBRATION)
    np.testing.assert_array_equal(calibrated.pixels, speckle[INSIDE])
    assert calibrated.mm_per_pixel == (0.2, 0.1)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (lambda v: ultrasound(v, PixelSpacing=[9, 9]), (0.2, 0.1)),
        (lambda v: without_regions(v, PixelSpacing=[0.3, 0.4]), (0.3, 0.4)),
        (lambda v: ultrasound(v, SequenceOfUltrasoundRegions=[region(PhysicalUnitsXDirection=4)]), None),
        (
            lambda v: ultrasound(v, SequenceOfUltrasoundRegions=[region(PhysicalDeltaX=0.0)], PixelSpacing=[1, 2]),
            (1, 2),
        ),
    ],
    ids=["deltas first", "pixel spacing", "not centimetres", "impossible deltas"],
)
def test_spacing_is_stated_or_unknown(tmp_path: Path, speckle: Any, image: Any, expected: Any) -> None:
    found = frame_of(image(speckle), tmp_path).mm_per_pixel
    assert found == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.RLELossless])
def test_a_cine_gives_the_chosen_frame_only(tmp_path: Path, speckle: Any, syntax: uid.UID) -> None:
    frames = np.stack([speckle, 255 - speckle, speckle // 2])
    image = ultrasound(frames[0], NumberOfFrames=3, PixelData=frames.tobytes())
    image.SOPClassUID = uid.UltrasoundMultiFrameImageStorage
    if syntax.is_compressed:
        image.compress(syntax)
    path = saved(image, tmp_path / "cine.dcm")
    for index in range(3):
        np.testing.assert_array_equal(read_image(path, frame_index=index).pixels, frames[index][INSIDE])
    for wrong in (None, 3, -1):
        with pytest.raises(UnreadableImage, match="0 to 2"):
            read_image(path, frame_index=wrong)


def test_an_inclusive_maximum_one_too_large_is_forgiven(tmp_path: Path, speckle: Any) -> None:
    image = ultrasound(speckle, SequenceOfUltrasoundRegions=[region((0, 0, COLUMNS + 1, ROWS + 1))])
    np.testing.assert_array_equal(frame_of(image, tmp_path).pixels, speckle)


# ---- DICOM: refusals -------------------------------------------------------------------------------------------------


def cut_short(image: Dataset) -> Dataset:
    image.PixelData = image.PixelData[:-500]
    return image


def without_pixels(image: Dataset) -> Dataset:
    del image.PixelData
    return image


@pytest.mark.parametrize(
    ("image", "rule"),
    [
        (lambda v: ultrasound(v, SOPClassUID=uid.CTImageStorage), "not-ultrasound"),
        (lambda v: ultrasound(v, SOPClassUID="1.2.3.4.5"), "not-ultrasound"),
        (lambda v: ultrasound(v, Rows=0), "no-pixels"),
        (lambda v: ultrasound(v, Rows=60000, Columns=60000), "too-large"),
        (lambda v: ultrasound(v, PhotometricInterpretation="HSV"), "colour"),
        (lambda v: ultrasound(v.astype(np.uint32)), "bits"),
        (lambda v: ultrasound(v, PixelRepresentation=1), "signed"),
        (lambda v: ultrasound(v, SequenceOfUltrasoundRegions=[region((9, 9, 99, 40))]), "region"),
        (lambda v: ultrasound(v, SequenceOfUltrasoundRegions=[region(kind=(2, 1))]), "no-tissue-region"),
        (lambda v: ultrasound(v, SequenceOfUltrasoundRegions=[region(PhysicalDeltaX=-0.1)]), "spacing"),
        (lambda v: ultrasound(v, SequenceOfUltrasoundRegions=[region(PhysicalDeltaY=float("inf"))]), "spacing"),
        (lambda v: cut_short(ultrasound(v)), "decode"),
        (lambda v: without_pixels(ultrasound(v)), "no-pixels"),
        (lambda v: encapsulated(ultrasound(v), picture_bytes(v[:9], "JPEG"), uid.JPEGBaseline8Bit), "size"),
        (lambda v: encapsulated(ultrasound(v), picture_bytes(v, "JPEG")[:99], uid.JPEGBaseline8Bit), "decode"),
        (lambda v: encapsulated(ultrasound(v), b"MPEG", uid.MPEG2MPML), "no-decoder"),
    ],
)
def test_what_cannot_be_read_is_refused_without_a_name(tmp_path: Path, speckle: Any, image: Any, rule: str) -> None:
    path = saved(image(speckle), tmp_path / "frame.dcm")
    with pytest.raises(UnreadableImage) as refusal:
        read_image(path)
    (finding,) = refusal.value.findings
    assert (finding.rule, finding.file) == (rule, "frame.dcm")
    assert finding.seen
    assert finding.remedy
    assert PERSON not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_a_name_where_a_uid_belongs_reaches_no_log(
    tmp_path: Path, speckle: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    path = saved(ultrasound(speckle), tmp_path / "frame.dcm")
    stated = uid.UltrasoundImageStorage.encode()
    path.write_bytes(path.read_bytes().replace(stated, PERSON.encode().ljust(len(stated))))
    _, reasons = outcome(path)
    assert "no known kind" in reasons[0]
    assert PERSON not in reasons[0] + caplog.text + "".join(capfd.readouterr())


def test_regions_of_another_frame_give_way_to_the_hospital(tmp_path: Path, speckle: Any) -> None:
    resized = ultrasound(speckle, SequenceOfUltrasoundRegions=[region((9, 9, 400, 300))])
    frame = frame_of(resized, tmp_path, calibration=Calibration((X0, Y0, X1, Y1), None))
    np.testing.assert_array_equal(frame.pixels, speckle[INSIDE])
    assert frame.mm_per_pixel is None  # the deltas were those of the other frame


@pytest.mark.parametrize("path", PYDICOM_FILES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_file_of_pydicom_opens_or_is_refused_with_a_reason(path: Path) -> None:
    frame, reasons = outcome(path)
    assert (frame is None) == bool(reasons)
    assert all(path.name in reason and PERSON not in reason for reason in reasons)
    assert frame is None or (frame.pixels.dtype == np.uint8 and frame.pixels.size > 0)


def outcome(path: Path) -> tuple[Frame | None, list[str]]:
    try:
        return read_image(path), []
    except UnreadableImage as refusal:
        return None, [str(finding) for finding in refusal.findings]


def test_damaged_files_are_refused_and_never_crash(tmp_path: Path, speckle: Any) -> None:
    rng = np.random.default_rng(11)
    originals = [saved(ultrasound(speckle), tmp_path / "a").read_bytes(), picture_bytes(speckle, "PNG")]
    path = tmp_path / "damaged"
    for _ in range(150):
        damaged = bytearray(originals[rng.integers(2)])
        for place in rng.integers(0, 1200, 6):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged[: rng.integers(1, len(damaged))] if rng.random() < 0.3 else damaged)
        frame, reasons = outcome(path)
        assert (frame is None) == (len(reasons) == 1)


# ---- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
@pytest.mark.parametrize("coloured", [False, True])
def test_lossless_pictures_are_exact_whatever_their_suffix(
    tmp_path: Path, speckle: Any, kind: str, coloured: bool
) -> None:
    path = tmp_path / "frame.jpg"
    path.write_bytes(picture_bytes(np.stack([speckle] * 3, axis=-1) if coloured else speckle, kind))
    frame = read_image(path, CALIBRATION)
    np.testing.assert_array_equal(frame.pixels, speckle[INSIDE])
    assert (frame.mm_per_pixel, frame.device, frame.origin) == ((0.2, 0.1), "", (Y0, X0))
    assert read_image(path).mm_per_pixel is None


def test_jpeg_is_close_and_its_dpi_is_no_spacing(tmp_path: Path, smooth: Any) -> None:
    path = tmp_path / "frame.dcm"
    path.write_bytes(picture_bytes(np.stack([smooth] * 3, axis=-1), "JPEG", quality=95, dpi=(96, 96)))
    frame = read_image(path)
    assert np.abs(frame.pixels.astype(int) - smooth).max() <= 4
    assert frame.mm_per_pixel is None


def test_deep_png_spreads_over_the_grey_range(tmp_path: Path, speckle: Any) -> None:
    path = tmp_path / "deep.png"
    path.write_bytes(picture_bytes(speckle.astype(np.uint16) * 257, "PNG"))
    np.testing.assert_array_equal(read_image(path, CALIBRATION).pixels, speckle[INSIDE])


def stack(values: NDArray[np.uint8]) -> bytes:
    return picture_bytes(values, "TIFF", save_all=True, append_images=[Image.fromarray(255 - values)])


def turned(values: NDArray[np.uint8]) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return picture_bytes(values, "JPEG", exif=exif)


def bomb(_: NDArray[np.uint8]) -> bytes:
    stream = BytesIO()
    Image.new("1", (8000, 8000)).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (lambda v: picture_bytes(v, "PNG")[:-900], "decode"),
        (lambda v: picture_bytes(v.astype(np.float32), "TIFF"), "colour"),
        (stack, "several-frames"),
        (turned, "orientation"),
        (bomb, "too-large"),
        (lambda _: b"", "format"),
        (lambda _: b"GIF89a" + bytes(99), "format"),
    ],
)
def test_pictures_that_cannot_be_read_are_refused(tmp_path: Path, speckle: Any, content: Any, rule: str) -> None:
    path = tmp_path / "frame.png"
    path.write_bytes(content(speckle))
    with pytest.raises(UnreadableImage) as refusal:
        read_image(path)
    assert [(f.rule, f.file) for f in refusal.value.findings] == [(rule, "frame.png")]


def test_a_stack_gives_the_chosen_frame(tmp_path: Path, speckle: Any) -> None:
    path = tmp_path / "stack.tif"
    path.write_bytes(stack(speckle))
    np.testing.assert_array_equal(read_image(path, frame_index=1).pixels, 255 - speckle)


@pytest.mark.parametrize("box", [(-1, 0, 9, 9), (0, 0, COLUMNS + 2, 9), (9, 0, 9, 9), (COLUMNS, 0, COLUMNS + 1, 9)])
def test_a_region_outside_the_picture_is_refused(tmp_path: Path, speckle: Any, box: Any) -> None:
    path = tmp_path / "frame.png"
    path.write_bytes(picture_bytes(speckle, "PNG"))
    with pytest.raises(UnreadableImage, match="inside 80 x 60 pixels"):
        read_image(path, Calibration(box, None))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.dcm", tmp_path):
        with pytest.raises(UnreadableImage) as refusal:
            read_image(path)
        assert refusal.value.findings[0].rule == "file"


# ---- what a file says of itself --------------------------------------------------------------------------------------


def test_a_dicom_file_says_what_it_is(tmp_path: Path, speckle: Any) -> None:
    said = {"TransducerData": ["SL10-2", "", ""], "BurnedInAnnotation": "YES", "LossyImageCompression": "01"}
    assert frame_of(ultrasound(speckle, **said), tmp_path).facts == Facts(
        "DICOM",
        kind="Ultrasound Image Storage",
        transducer="SL10-2",
        burned_in="YES",
        region_from="file",
        spacing_from="file",
        lossy=True,
    )
    silent = frame_of(without_regions(speckle, SOPClassUID=uid.SecondaryCaptureImageStorage), tmp_path).facts
    assert silent == Facts("DICOM", kind="Secondary Capture Image Storage")


def test_a_text_where_yes_or_no_belongs_goes_nowhere(tmp_path: Path, speckle: Any) -> None:
    frame = frame_of(ultrasound(speckle, BurnedInAnnotation=PERSON), tmp_path)
    assert PERSON not in repr(frame.facts)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "JPEG"])
def test_a_picture_says_what_it_is(tmp_path: Path, speckle: Any, kind: Any) -> None:
    path = tmp_path / "frame"
    path.write_bytes(picture_bytes(speckle, kind))
    assert read_image(path).facts == Facts(kind, region_from="whole", lossy=kind == "JPEG")
    told = read_image(path, CALIBRATION).facts
    assert (told.region_from, told.spacing_from) == ("calibration", "calibration")


def test_a_tiff_in_jpeg_is_lossy(tmp_path: Path, smooth: Any) -> None:
    path = tmp_path / "frame.tif"
    path.write_bytes(picture_bytes(np.stack([smooth] * 3, axis=-1), "TIFF", compression="jpeg"))
    frame = read_image(path)
    assert frame.facts.lossy
    assert np.abs(frame.pixels.astype(int) - smooth).max() <= 8


def test_frames_are_counted_without_decoding(tmp_path: Path, speckle: Any) -> None:
    frames = np.stack([speckle] * 3)
    image = ultrasound(frames[0], NumberOfFrames=3, PixelData=frames.tobytes())
    image.SOPClassUID = uid.UltrasoundMultiFrameImageStorage
    assert frame_count(saved(image, tmp_path / "cine.dcm")) == 3
    assert frame_of(image, tmp_path, frame_index=1).facts.frames == 3
    assert frame_count(saved(cut_short(ultrasound(speckle)), tmp_path / "still.dcm")) == 1
    (tmp_path / "stack.tif").write_bytes(stack(speckle))
    assert frame_count(tmp_path / "stack.tif") == 2
    with pytest.raises(UnreadableImage, match="nothing"):
        frame_count(tmp_path / "nothing.dcm")


# ---- frames of a cine ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL", "YBR_FULL_422", "PALETTE COLOR", "MONOCHROME1"])
def test_every_frame_of_a_cine_in_every_colour_space(tmp_path: Path, speckle: Any, photometric: str) -> None:
    frames = [speckle, 255 - speckle, speckle // 2]
    stored: dict[str, Callable[[Any], bytes]] = {
        "RGB": lambda v: np.stack([v] * 3, axis=-1).tobytes(),
        "YBR_FULL": lambda v: grey_ybr(v).tobytes(),
        "YBR_FULL_422": lambda v: subsampled(v).tobytes(),
        "PALETTE COLOR": lambda v: (255 - v).tobytes(),
        "MONOCHROME1": lambda v: (255 - v).tobytes(),
    }
    colours = photometric in ("RGB", "YBR_FULL", "YBR_FULL_422")
    image = palette(speckle) if photometric == "PALETTE COLOR" else ultrasound(
        np.stack([speckle] * 3, axis=-1) if colours else speckle, photometric
    )  # fmt: skip
    image.SOPClassUID, image.NumberOfFrames = uid.UltrasoundMultiFrameImageStorage, 3
    image.PixelData = b"".join(stored[photometric](v) for v in frames)
    path = saved(image, tmp_path / "cine.dcm")
    for index, expected in enumerate(frames):
        np.testing.assert_array_equal(read_image(path, frame_index=index).pixels, expected[INSIDE])


def test_every_frame_of_a_jpeg_cine(tmp_path: Path, smooth: Any) -> None:
    frames = [smooth, 255 - smooth]
    image = ultrasound(smooth, NumberOfFrames=2, LossyImageCompression="01")
    image.SOPClassUID = uid.UltrasoundMultiFrameImageStorage
    image.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    image.PixelData = encapsulate([picture_bytes(v, "JPEG", quality=95) for v in frames])
    image["PixelData"].is_undefined_length = True
    path = saved(image, tmp_path / "cine.dcm")
    for index, expected in enumerate(frames):
        found = read_image(path, frame_index=index).pixels
        assert np.abs(found.astype(int) - expected[INSIDE]).max() <= 4


# ---- syntaxes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("coloured", [False, True])
@pytest.mark.parametrize("syntax", [uid.RLELossless, uid.JPEG2000Lossless, uid.JPEGLSLossless])
def test_lossless_syntaxes_at_both_depths_and_in_colour(
    tmp_path: Path, speckle: Any, syntax: uid.UID, coloured: bool, deep: bool
) -> None:
    grey = speckle.astype(np.uint16) * 257 if deep else speckle
    values = np.stack([grey] * 3, axis=-1) if coloured else grey
    image = ultrasound(values, "RGB" if coloured else "MONOCHROME2")
    image.compress(syntax)
    np.testing.assert_array_equal(frame_of(image, tmp_path).pixels, speckle[INSIDE])


def test_jpeg_2000_and_jpeg_ls_with_loss_are_close_and_say_so(tmp_path: Path, smooth: Any) -> None:
    near = ultrasound(smooth)
    near.compress(uid.JPEGLSNearLossless, jls_error=2)
    lossy = ultrasound(smooth, LossyImageCompression="01")
    lossy.compress(uid.JPEG2000, j2k_psnr=[50])
    for image in (near, lossy):
        frame = frame_of(image, tmp_path)
        assert frame.facts.lossy
        assert np.abs(frame.pixels.astype(int) - smooth[INSIDE]).max() <= 6


def test_sixteen_bit_palette_indices(tmp_path: Path, speckle: Any) -> None:
    table = (np.arange(256, dtype="<u2") * 257).tobytes()
    image = ultrasound(speckle.astype(np.uint16), "PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(image, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(image, f"{colour}PaletteColorLookupTableData", table)
    np.testing.assert_array_equal(frame_of(image, tmp_path).pixels, speckle[INSIDE])


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_inverted_deep_pixels(tmp_path: Path, bits: int) -> None:
    values = np.linspace(0, 2**bits - 1, ROWS * COLUMNS).astype(np.uint16).reshape(ROWS, COLUMNS)
    plain, inverted = (
        frame_of(ultrasound(values, kind, BitsStored=bits, HighBit=bits - 1), tmp_path).pixels
        for kind in ("MONOCHROME2", "MONOCHROME1")
    )
    np.testing.assert_array_equal(inverted, 255 - plain)


# ---- colour ----------------------------------------------------------------------------------------------------------


def doppler(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Red flow in a quarter of the tissue region."""
    rgb = np.stack([grey] * 3, axis=-1)
    rgb[Y0 : (Y0 + Y1) // 2, X0 : (X0 + X1) // 2] = (220, 30, 10)
    return rgb


@pytest.mark.parametrize("kind", ["DICOM", "palette", "ybr", "PNG", "JPEG"])
def test_colour_is_measured_on_request_and_changes_no_pixel(tmp_path: Path, smooth: Any, kind: str) -> None:
    path, rgb = tmp_path / "frame", doppler(smooth)
    if kind in ("PNG", "JPEG"):
        path.write_bytes(picture_bytes(rgb, kind, **({"quality": 92} if kind == "JPEG" else {})))
    elif kind == "palette":
        indexed = Image.fromarray(rgb).quantize(256)
        image = ultrasound(np.asarray(indexed), "PALETTE COLOR")
        table = np.array(indexed.getpalette(), dtype=np.uint16).reshape(-1, 3) * 257
        for k, colour in enumerate(("Red", "Green", "Blue")):
            setattr(image, f"{colour}PaletteColorLookupTableDescriptor", [len(table) % 65536, 0, 16])
            setattr(image, f"{colour}PaletteColorLookupTableData", table[:, k].astype("<u2").tobytes())
        saved(image, path)
    elif kind == "ybr":
        saved(ultrasound(np.asarray(Image.fromarray(rgb).convert("YCbCr")), "YBR_FULL"), path)
    else:
        saved(ultrasound(rgb, "RGB"), path)
    plain, asked = read_image(path, CALIBRATION), read_image(path, CALIBRATION, colour=True)
    np.testing.assert_array_equal(plain.pixels, asked.pixels)
    assert plain.facts.colour_share == 0
    assert asked.facts.colour_share == pytest.approx(0.25, abs=0.07)


# ---- what pydicom carries for ultrasound -----------------------------------------------------------------------------

ULTRASOUND_OF_PYDICOM = {
    "ExplVR_BigEnd.dcm": "screen",  # a thumbnail of 80 x 60 pixels
    "examples_jpeg2k.dcm": "opens",
    "examples_palette.dcm": "region",  # it was cropped; its regions are those of the frame before
    "examples_rgb_color.dcm": "opens",
    "examples_ybr_color.dcm": "region",  # it was resized, likewise
}


@pytest.mark.filterwarnings("ignore:Expected explicit VR:UserWarning")
def test_every_ultrasound_file_of_pydicom_opens_or_is_refused_with_its_reason() -> None:
    found = {}
    for path in PYDICOM_FILES:
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        if header.get("Modality") == "US" or "Ultrasound" in getattr(header.get("SOPClassUID"), "name", ""):
            try:
                frame = read_image(path, frame_index=0)
                found[path.name] = "opens"
                assert frame.facts.region_from == "found"
            except UnreadableImage as refusal:
                found[path.name] = refusal.findings[0].rule
    assert found == ULTRASOUND_OF_PYDICOM


def test_the_real_frame_of_pydicom_loses_its_banner(tmp_path: Path) -> None:
    """A GE screen with the hospital's name above and LYMPH NODE below the picture."""
    path = next(p for p in PYDICOM_FILES if p.name == "examples_jpeg2k.dcm")
    frame = read_image(path)
    (top, left), (height, width) = frame.origin, frame.pixels.shape
    assert (abs(top - 108), abs(top + height - 337)) <= (2, 2)
    assert (abs(left - 9), abs(left + width - 623)) <= (2, 2)


@pytest.mark.parametrize("index", [0, 29])
def test_a_region_of_the_hospitals_opens_pydicoms_real_cine(index: int) -> None:
    path = next(p for p in PYDICOM_FILES if p.name == "examples_ybr_color.dcm")
    frame = read_image(path, Calibration((40, 20, 290, 220), (0.4, 0.4)), index, colour=True)
    assert frame_count(path) == 30
    assert frame.facts.kind == "Ultrasound Multi-frame Image Storage"
    assert frame.pixels.std() > 10
