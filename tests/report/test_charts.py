import math
import re
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.report.conftest import Element

from carso.report import charts
from carso.report.charts import Axis, Point, Series

Read = Callable[[str], Element]


def test_an_axis_places_by_share_or_by_logarithm() -> None:
    assert Axis("x", 0, 50, ()).share(20) == pytest.approx(0.4)
    assert Axis("x", 1, 1000, (), log=True).share(10) == pytest.approx(1 / 3)
    assert Axis("x", 1, 1000, (), log=True).share(5000) == 1


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_even_and_cover_the_range(low: float, span: float) -> None:
    found = charts.ticks(low, low + span)
    gaps = [b - a for a, b in pairwise(found)]
    assert 3 <= len(found) <= 12
    assert found[0] <= low + 1e-9 * (abs(low) + span)
    assert found[-1] >= low + span - 1e-9 * (abs(low) + span)
    assert max(gaps) == pytest.approx(min(gaps), rel=1e-3)


def test_a_line_runs_through_its_points(read: Read) -> None:
    x = Axis("eps", 0, 1, (0, 1))
    drawn = charts.lines(
        "title", x, charts.PERCENT, [Series("s", "carso", [Point(0, 100, 90, 100), Point(1, 0, 0, 5)])]
    )
    (svg,) = read(drawn).all("svg")
    left, right = charts.LEFT, charts.LARGE.width - charts.RIGHT
    top, bottom = charts.TOP, charts.LARGE.height - charts.BOTTOM
    assert svg.all("polyline")[0].attributes["points"] == f"{left:.1f},{top:.1f} {right:.1f},{bottom:.1f}"
    assert len(svg.all("polygon")[0].attributes["points"].split()) == 4
    assert svg.all("title")[0].text == "s at 0: 100 [90, 100]"


def test_a_heatmap_shows_every_count_and_shades_by_row(read: Read) -> None:
    (svg,) = read(charts.heatmap("title", [[9, 1], [0, 0]], ["a", "b"])).all("svg")
    right, wrong = svg.all("rect")
    assert float(right.attributes["fill-opacity"]) == pytest.approx(math.sqrt(0.9), abs=1e-3)
    assert float(wrong.attributes["fill-opacity"]) == pytest.approx(math.sqrt(0.1), abs=1e-3)
    assert {"9", "1"} <= {text.text for text in svg.all("text")}


def test_a_heatmap_of_many_classes_is_small_and_seen(read: Read) -> None:
    counts = [[3 * (i == j) + (j == 0) for j in range(500)] for i in range(500)]
    drawn = charts.heatmap("title", counts, [str(k) for k in range(500)])
    (svg,) = read(drawn).all("svg")
    assert len(svg.all("rect")) == 999
    assert all(0 < float(cell.attributes["width"]) <= 0.6 for cell in svg.all("rect"))
    assert len(drawn) < 200_000


def test_a_cell_says_its_classes_and_names_that_begin_alike_are_told_apart(read: Read) -> None:
    names = ["n01440764", "n01443537"]
    (svg,) = read(charts.heatmap("title", [[9, 1], [0, 0]], names)).all("svg")
    said = [title.text for title in svg.all("title")]
    assert {"n01440764, answered n01440764: 9", "n01440764, answered n01443537: 1"} <= {*said}
    assert [text.text for text in svg.all("text", "tick")] == ["0", "0", "1", "1"]
    (svg,) = read(charts.votes("title", [0.75, 0.25], names, elected=0, true=1)).all("svg")
    assert [text.text for text in svg.all("text")] == ["0", "1"]


@pytest.mark.parametrize("names", ["abcdefghij", ["Mummy", "Wombat"]])
def test_the_classes_stand_clear_of_the_title_beside_them(read: Read, names: str | list[str]) -> None:
    counts = [[1] * len(names)] * len(names)
    (svg,) = read(charts.heatmap("title", counts, list(names))).all("svg")
    turned = next(text for text in svg.all("text") if text.text == "true class")
    (title,) = re.findall(r"translate\(([\d.]+)", turned.attributes["transform"])
    ends = [float(t.attributes["x"]) for t in svg.all("text", "tick") if t.attributes["text-anchor"] == "end"]
    assert float(title) >= 12
    assert min(ends) - charts.LETTER * max(len(name[:3]) for name in names) >= float(title) + 3


def test_votes_stand_as_high_as_their_shares(read: Read) -> None:
    (svg,) = read(charts.votes("title", [0.75, 0.25, 0], ["a", "b", "c"], elected=0, true=1)).all("svg")
    heights = [float(bar.attributes["height"]) for bar in svg.all("rect")]
    assert heights[0] == pytest.approx(3 * heights[1])
    assert heights[2] == 0
    assert "elected" in svg.all("rect")[0].classes
    assert [text.text for text in svg.all("text", "true")] == ["b"]


def test_words_are_escaped() -> None:
    drawn = charts.lines("<b>", Axis("<i>", 0, 1, ()), charts.PERCENT, [])
    assert "<b>" not in drawn
    assert "<i>" not in drawn
