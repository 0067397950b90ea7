"""The three hospitals have the numbers that Chen et al. (2025) print."""

import math

import pytest

from sarco_models.errors import ConfigError
from simulation.centers import (
    CENTERS,
    PRESETS,
    SHANGHAI,
    SICHUAN,
    ZHONGSHAN,
    Center,
    Counts,
    PerClass,
    counts_at,
    counts_of_sample,
    preset_named,
)
from simulation.devices import DEVICES

PAPER = PRESETS["paper_matched"]


@pytest.mark.parametrize(
    ("center", "people", "images"),
    [(SHANGHAI, 357, 2735), (SICHUAN, 145, 352), (ZHONGSHAN, 82, 817)],
)
def test_full_scale_is_the_paper(center: Center, people: int, images: int) -> None:
    counts = counts_at(center, "full", PAPER)
    assert counts.participants.healthy + counts.participants.sarcopenia == people
    assert counts.images.healthy + counts.images.sarcopenia == images


def test_full_scale_per_class() -> None:
    assert SHANGHAI.full == Counts(PerClass(256, 101), PerClass(2127, 608))
    assert SICHUAN.full == Counts(PerClass(77, 68), PerClass(252, 100))
    assert ZHONGSHAN.full == Counts(PerClass(63, 19), PerClass(632, 185))


def test_sichuan_images_as_the_results_section_prints_them() -> None:
    assert counts_at(SICHUAN, "full", PRESETS["as_printed"]).images == PerClass(healthy=252, sarcopenia=70)
    assert counts_at(SHANGHAI, "full", PRESETS["as_printed"]) == SHANGHAI.full


def test_small_is_a_quarter_of_each_class() -> None:
    assert counts_at(SHANGHAI, "small", PAPER) == Counts(PerClass(64, 25), PerClass(532, 152))
    assert counts_at(SICHUAN, "small", PAPER) == Counts(PerClass(19, 17), PerClass(63, 25))
    assert counts_at(ZHONGSHAN, "small", PAPER) == Counts(PerClass(16, 5), PerClass(158, 46))


def test_tiny_has_both_classes_everywhere() -> None:
    sizes = []
    for center in CENTERS.values():
        counts = counts_at(center, "tiny", PAPER)
        assert min(counts.participants.healthy, counts.participants.sarcopenia) >= 2
        sizes.append(counts.participants.healthy + counts.participants.sarcopenia)
    assert sizes == [24, 12, 12]


def test_a_sample_keeps_prevalence_and_images_per_participant() -> None:
    sample = counts_of_sample(SHANGHAI.full, 100)
    assert sample.participants == PerClass(72, 28)
    assert sample.images == PerClass(round(72 * 2127 / 256), round(28 * 608 / 101))


def test_device_shares_add_up_and_name_known_devices() -> None:
    for center in CENTERS.values():
        assert sum(center.devices.values()) == pytest.approx(1)
        assert set(center.devices) <= set(DEVICES)


@pytest.mark.parametrize("preset", ["paper", "", "PAPER_MATCHED"])
def test_an_unknown_preset_is_named_with_the_known_ones(preset: str) -> None:
    with pytest.raises(ConfigError, match="paper_matched, table1_faithful, as_printed"):
        preset_named(preset)


def test_an_unknown_scale_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'huge'; expected one of full, small, tiny"):
        counts_at(SHANGHAI, "huge", PAPER)


def prevalence(center: Center, shift: float, scale: str = "full") -> float:
    people = counts_at(center, scale, PAPER, shift).participants
    return people.sarcopenia / (people.healthy + people.sarcopenia)


def test_without_a_prevalence_shift_all_centres_have_that_of_all_together() -> None:
    together = (101 + 68 + 19) / (357 + 145 + 82)
    for center in CENTERS.values():
        people = center.full.participants
        assert prevalence(center, 0.0) == pytest.approx(together, abs=0.5 / (people.healthy + people.sarcopenia))


@pytest.mark.parametrize("scale", ["full", "small", "tiny"])
def test_a_prevalence_shift_of_one_is_the_paper(scale: str) -> None:
    for center in CENTERS.values():
        assert counts_at(center, scale, PAPER, 1.0) == counts_at(center, scale, PAPER)
    assert prevalence(SICHUAN, 1.0) == 68 / 145


def test_a_prevalence_shift_turns_the_log_odds_up_and_keeps_everybody() -> None:
    def log_odds(share: float) -> float:
        return math.log(share / (1 - share))

    for center in CENTERS.values():
        printed, twice = counts_at(center, "full", PAPER), counts_at(center, "full", PAPER, 2.0)
        assert sum(twice.participants[k] for k in (True, False)) == sum(printed.participants[k] for k in (True, False))
        moved = log_odds(prevalence(center, 2.0)) - log_odds(prevalence(center, 0.0))
        assert moved == pytest.approx(2 * (log_odds(prevalence(center, 1.0)) - log_odds(188 / 584)), abs=0.1)
        for k in (True, False):
            each = printed.images[k] / printed.participants[k]
            assert twice.images[k] / twice.participants[k] == pytest.approx(each, rel=0.01)


def test_a_prevalence_that_leaves_a_class_empty_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"prevalence_shift: 6 leaves 1 of the 21 at zhongshan .* at least 2"):
        counts_at(ZHONGSHAN, "small", PAPER, 6.0)
