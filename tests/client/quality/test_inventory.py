"""What a site has is counted once: features, gaps, devices and a fair choice of images."""

from dataclasses import replace

import numpy as np
import pytest

from client.quality import inventory
from client.quality.pictures import Album
from client.quality.records import QualityReport
from tests.client.quality import example_report as example


@pytest.fixture(scope="module")
def faulty() -> QualityReport:
    return example.faulty()


def test_every_feature_is_shown_once(faulty: QualityReport) -> None:
    shown = [d.name for d in inventory.distributions(faulty)] + [s.name for s in inventory.shares(faulty)]
    assert sorted(shown) == sorted(f.name for f in faulty.features)
    (albumin,) = (d for d in inventory.distributions(faulty) if d.name == "albumin_g_per_l")
    assert albumin.refused == 15


def test_missing_percentages_are_those_of_the_values(faulty: QualityReport) -> None:
    of_name = {g.name: g.missing for g in inventory.gaps(faulty)}
    assert len(of_name) == len(faulty.features) + 1, "the images too"
    for feature in faulty.features:
        assert of_name[feature.name] == f"{100 * np.isnan(feature.values).mean():.0f} %"


def test_categories_of_one_feature_are_one_row_of_the_map() -> None:
    report = example.clean()
    one = replace(report.features[0], kind="categorical", unit="")
    smoking = tuple(replace(one, name=f"smoking={c}") for c in ("never", "now"))
    names = [g.name for g in inventory.gaps(replace(report, features=smoking))]
    assert names == ["usable image", "smoking"]


def test_devices_add_up_to_the_images_that_were_read(faulty: QualityReport) -> None:
    devices, more = inventory.devices(faulty)
    assert sum(int(d.images) for d in devices) == sum(r.facts is not None for r in faulty.records)
    assert more == 0


def test_device_names_with_serial_numbers_do_not_fill_the_page() -> None:
    report = example.clean()
    records = tuple(replace(r, device=f"Scanner {k:03}") for k, r in enumerate(report.records))
    devices, more = inventory.devices(replace(report, records=records))
    assert (len(devices), more) == (inventory.DEVICES, len(records) - inventory.DEVICES)


def test_the_contact_sheet_is_bounded_and_shows_every_device_and_class(faulty: QualityReport) -> None:
    sheets, not_shown = inventory.contact_sheet(faulty, Album(10**7))
    shown = sum(len(s.pictures) for s in sheets)
    assert shown == inventory.CONTACTS
    assert shown + not_shown == sum(bool(r.thumbnail) for r in faulty.records)
    assert {s.device or "" for s in sheets} == {r.device or "unnamed device" for r in faulty.records if r.thumbnail}
    for sheet in sheets:
        assert {"positive", "negative"} <= {p.words.partition(", ")[2] for p in sheet.pictures}
