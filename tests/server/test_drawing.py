"""No word of a figure is cut, however many arms there are and whatever they are called."""

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from server.drawing import STYLE, WIDTH, legend_below


@pytest.mark.parametrize("entries", [1, 2, 3, 6, 9])
@pytest.mark.parametrize(
    "name", ["Pooled", "nnU-Net: Hospital A alone", "hollow: no drawing of this muscle to learn from"]
)
def test_a_legend_below_stays_inside_the_figure(entries: int, name: str) -> None:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for k in range(entries):
            left.plot([0, 1], [0, k], label=f"{name} {k}")
            right.plot([0, 1], [0, k], label=f"{name} {k}")
        legend_below(figure)
        FigureCanvasAgg(figure).draw()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [f"{name} {k}" for k in range(entries)]
    box, page = legend.get_window_extent(), figure.bbox
    assert page.x0 <= box.x0
    assert box.x1 <= page.x1
    assert page.y0 <= box.y0
    if len(name) < 10 and entries < 7:
        assert legend._ncols == entries, "short words stand side by side"  # type: ignore[attr-defined]
