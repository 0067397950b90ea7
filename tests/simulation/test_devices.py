"""A site shift that is turned up moves every machine away from centre A's; turned off, all scan as centre A does."""

import numpy as np
import pytest

from simulation.devices import DEVICES, SHIFTED, Device, shifted
from simulation.frames import framed
from simulation.phantom import Subject, render

CENTER_A = DEVICES["aixplorer"]
OTHERS = [d for d in DEVICES.values() if d is not CENTER_A]


def scan(machine: Device) -> dict[str, float]:
    return {name: getattr(machine, name) for name in SHIFTED}


@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES)
def test_one_is_the_machine_itself_and_none_scans_as_centre_a(device: Device) -> None:
    assert shifted(device, 1.0) is device
    at_zero = shifted(device, 0.0)
    assert scan(at_zero) == scan(CENTER_A)
    assert (at_zero.key, at_zero.model, at_zero.width_mm) == (device.key, device.model, device.width_mm)
    assert scan(shifted(CENTER_A, 3.0)) == scan(CENTER_A)


@pytest.mark.parametrize("device", OTHERS, ids=lambda d: d.key)
def test_two_is_twice_as_far_where_a_machine_can_be(device: Device) -> None:
    twice, four = shifted(device, 2.0), shifted(device, 4.0)
    for name, (low, high) in SHIFTED.items():
        here, there = getattr(CENTER_A, name), getattr(device, name)
        assert low <= getattr(four, name) <= high
        if low < getattr(twice, name) < high:
            assert getattr(twice, name) - here == pytest.approx(2 * (there - here))


def test_grey_levels_of_the_same_muscle_part_as_the_shift_grows() -> None:
    def grey(device: str, shift: float) -> float:
        machine = shifted(DEVICES[device], shift)
        drawn = [render(Subject(), np.random.default_rng(k), device=machine, width_px=64) for k in range(8)]
        return float(np.mean([image.echo_intensity for image in drawn]))

    gaps = [grey("mindray_mx7", shift) - grey("aixplorer", shift) for shift in (0.0, 1.0, 2.0)]
    assert abs(gaps[0]) < 4
    assert gaps[0] + 5 < gaps[1] < gaps[2] - 5


def test_the_screen_tells_the_shifted_settings() -> None:
    picture = np.zeros((80, 160), np.uint8)
    plain, again, moved = (
        framed(picture, d, 40, "") for d in ("samsung_r10", DEVICES["samsung_r10"], shifted(DEVICES["samsung_r10"], 2))
    )
    assert np.array_equal(plain, again)
    assert not np.array_equal(plain, moved)
