"""The devices of a site are listed, and one that stands apart is noted."""

import numpy as np
import pytest

from client.quality.devices import device_findings, shown_device
from client.quality.records import ImageRecord
from sarco_models.errors import Finding
from tests.client.quality.looks import row


def record(device: str, level: int = 60, mm: float | None = 0.1, number: int = 2) -> ImageRecord:
    grey = np.zeros(256, dtype=np.int64)
    grey[level] = 1000
    spacing = None if mm is None else (mm, mm)
    return ImageRecord(row(number), (), device=device, mm_per_pixel=spacing, content=f"{number}", grey=grey)


def by_rule(*records: ImageRecord) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in device_findings(records):
        assert finding.severity == "note"
        found.setdefault(finding.rule, []).append(finding)
    return found


def test_devices_are_listed_with_their_images() -> None:
    found = by_rule(record("Mindray M9"), record(""), record("Mindray M9"))
    assert found.keys() == {"devices"}
    assert found["devices"][0].seen == "Mindray M9: 2; unknown device: 1"
    assert device_findings([ImageRecord(row(), ())]) == ()


def test_a_much_brighter_device_is_noted() -> None:
    others = [record("A", 60 + k % 5) for k in range(8)] + [record("B", 65) for _ in range(8)]
    assert by_rule(*others).keys() == {"devices"}
    found = by_rule(*others, *(record("C", 100) for _ in range(8)))["device-brightness"]
    assert [f.seen for f in found] == ["C: median brightness 100, A: 62"]
    assert "device-brightness" not in by_rule(*others, record("C", 120)), "one image is no device"


def test_mixed_scales_within_one_device_are_noted() -> None:
    found = by_rule(record("A", mm=0.1), record("A", mm=0.9), record("B", mm=0.1), record("B", mm=0.2))
    assert found["device-spacing"][0].seen == "A: 0.1 to 0.9 mm per pixel"
    partly = by_rule(record("A"), record("A"), record("A", mm=None))
    assert partly["device-spacing"][0].seen == "A: 1 of 3 images without spacing"
    assert "device-spacing" not in by_rule(record("A", mm=None))


@pytest.mark.parametrize("name", ["Anna 1950-01-31", "serial 77315501", "张伟", "a" * 80, "x@y.org", "Muster^Anna"])
def test_a_device_that_may_be_a_person_is_not_shown(name: str) -> None:
    assert shown_device(name) == "a device whose name is not shown"


def test_devices_keep_their_names() -> None:
    assert shown_device("SuperSonic Imagine Aixplorer") == "SuperSonic Imagine Aixplorer"
    assert shown_device("") == ""
