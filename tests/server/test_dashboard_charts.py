"""Charts that hold whatever names and numbers come, and say the same as their tables."""

import itertools
from xml.etree import ElementTree

import pytest

from server.arms import CENTRAL
from server.dashboard.charts import HEIGHT, MOST_LINES, WIDTH, bar_chart, line_chart, scale
from server.dashboard.history import MOST_POINTS, Curve, Moved, _thinned

HOSTILE = "<script>alert(1)</script>\"'&"


def parsed(svg: object) -> ElementTree.Element:
    return ElementTree.fromstring(str(svg))  # noqa: S314 - our own drawing


@pytest.mark.parametrize("low", [-3.0, 0.0, 0.0001, 0.5, 7.0])
@pytest.mark.parametrize("span", [0.0, 1e-6, 0.003, 0.3, 1.0, 9.9, 12345.0])
def test_a_scale_holds_what_it_is_for_in_few_even_steps(low: float, span: float) -> None:
    steps = scale(low, low + span)
    assert steps[0] <= low + 1e-9 * abs(low)
    assert steps[-1] >= low + span - 1e-9 * (abs(low) + span)
    gaps = [b - a for a, b in itertools.pairwise(steps)]
    assert min(gaps) > 0
    assert max(gaps) == pytest.approx(min(gaps), rel=1e-3)
    assert 2 <= len(steps) <= 8


def test_a_point_stands_where_its_number_is() -> None:
    svg = parsed(line_chart([Curve("a", ((0, 0.5), (5, 0.75), (10, 1.0)))], 10, what="AUC", coin=0.5))
    line = next(e for e in svg.iter() if e.tag.endswith("polyline"))
    points = [tuple(map(float, p.split(","))) for p in line.attrib["points"].split()]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 == pytest.approx((x0 + x2) / 2, abs=0.1)
    assert y1 == pytest.approx((y0 + y2) / 2, abs=0.1)
    assert y0 > y2


def test_a_hostile_name_is_a_text() -> None:
    svg = line_chart([Curve(HOSTILE, ((0, 1.0), (1, 2.0)))], 3, what="Loss")
    assert "<script>" not in str(svg)
    assert {e.tag.rpartition("}")[2] for e in parsed(svg).iter()} <= {"svg", "path", "text", "polyline", "circle"}


def test_names_do_not_cover_each_other_and_stay_inside() -> None:
    curves = [Curve(f"hospital {k}", ((0, 0.5), (1, 0.8))) for k in range(MOST_LINES)]
    svg = parsed(line_chart([*curves, Curve(CENTRAL, ((0, 0.5), (1, 0.8)))], 2, what="AUC"))
    heights = sorted(float(e.attrib["y"]) for e in svg.iter() if "name" in e.attrib.get("class", ""))
    assert len(heights) == MOST_LINES + 1
    assert min(b - a for a, b in itertools.pairwise(heights)) >= 13.9
    assert heights[0] > 8
    assert heights[-1] < HEIGHT


def test_lines_differ_by_more_than_colour() -> None:
    curves = [Curve(f"h{k}", ((0, 0.5), (1, 0.8))) for k in range(MOST_LINES)]
    svg = parsed(line_chart([*curves, Curve(CENTRAL, ((0, 0.5),))], 2, what="AUC"))
    dashes = [e.attrib.get("stroke-dasharray", "") for e in svg.iter() if e.tag.endswith("polyline")]
    assert len(set(dashes)) == MOST_LINES + 1


def test_one_point_and_the_same_number_everywhere_can_be_drawn() -> None:
    parsed(line_chart([Curve("a", ((0, 0.0),))], 0, what="Loss"))
    parsed(line_chart([Curve("a", ((1, 3.0), (2, 3.0)))], 2, what="Loss"))


def test_a_bar_is_as_high_as_its_bytes() -> None:
    svg = parsed(bar_chart([Moved(0, 4e6, 1e6, 1.0), Moved(1, 2e6, None, 1.0)]))
    bars = [e for e in svg.iter() if e.tag.endswith("rect") and float(e.attrib["height"]) != 10]
    down = [float(e.attrib["height"]) for e in bars if "down" in e.attrib["class"]]
    assert down[0] == pytest.approx(2 * down[1], rel=0.01)
    assert all(float(e.attrib["x"]) + float(e.attrib["width"]) <= WIDTH for e in bars)


def test_a_long_run_is_thinned_and_keeps_its_last_round() -> None:
    points = {k: float(k) for k in range(10_000)}
    thin = _thinned(points)
    assert len(thin) <= MOST_POINTS
    assert thin[-1] == (9999, 9999.0)
    assert thin == tuple(sorted(thin))
