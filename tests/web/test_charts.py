"""Charts show what the figures say, whatever the figures are."""

import json
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.model.vocabularies import COUNTRIES
from anonproxy.web.charts import (
    BOX_HEIGHT,
    SHADES,
    Figure,
    choose_shade,
    choose_ticks,
    lay_out_line,
    read_world,
    root,
)


@given(st.floats(0, 1e9))
def test_ticks_are_round_and_reach_above(largest: float) -> None:
    """The axis begins at zero, ends at or above the largest value, and has few, even, round steps."""
    ticks = choose_ticks(largest)
    assert ticks[0] == 0
    assert ticks[-1] >= largest
    assert 2 <= len(ticks) <= 6
    steps = {after - before for before, after in pairwise(ticks)}
    assert len(steps) == 1
    assert re.fullmatch(r"(1|2|25|5)0*", str(steps.pop()))


figures = st.none() | st.floats(0, 1e6)


@given(st.lists(st.tuples(figures, figures), min_size=1, max_size=400))
def test_lines_stay_in_their_box(values: list[tuple[float | None, float | None]]) -> None:
    """Every point of both lines lies within the box, from left to right, higher for larger figures."""
    chart = lay_out_line([Figure(str(n), str(n), now, was) for n, (now, was) in enumerate(values)])
    for path in (chart.line, chart.before):
        points = [tuple(map(float, point.split())) for point in re.findall(r"[\d.e-]+ [\d.e-]+", path)]
        assert all(0 <= x <= 1000 and 0 <= y <= BOX_HEIGHT for x, y in points)
        assert points == sorted(points, key=lambda point: point[0])
    assert [it.value for it in chart.known] == sorted(now for now, _ in values if now is not None)
    assert 1 <= len(chart.x_ticks) <= 9


def test_a_figure_stands_at_its_height() -> None:
    """Zero lies on the axis, half as much at half the height."""
    chart = lay_out_line([Figure("a", "a", 0), Figure("b", "b", 50), Figure("c", "c", 100)])
    assert [spot.y for spot in chart.spots] == [200, 100, 0]
    assert chart.line == "M166.7 200.0L500.0 100.0L833.3 0.0"
    assert chart.before == ""


def test_what_is_not_told_is_a_gap() -> None:
    """A figure that isn't known is no zero: the line ends before it and begins after it, and one alone is a dot."""
    chart = lay_out_line([Figure(n, n, value, 4) for n, value in zip("abcd", (4, 4, None, 4), strict=True)])
    assert chart.line == "M125.0 0.0L375.0 0.0M875.0 0.0h0"
    assert chart.area == "M125.0 0.0L375.0 0.0V200H125.0Z"
    assert chart.before.count("L") == 3
    assert lay_out_line([Figure("a", "a", None)]).known == ()


@pytest.mark.parametrize(("value", "shade"), [(0, 0), (1, 1), (50, 3), (51, 4), (100, SHADES)])
def test_shades(value: float, shade: int) -> None:
    """Nothing has no colour, anything some, and the most the last."""
    assert choose_shade(value, 100) == shade
    assert choose_shade(value, 0) == 0
    assert choose_shade(value, 100, root) >= shade


def test_the_map_knows_countries() -> None:
    """The map draws countries by code, all but a few tiny ones, in at most 100 kB."""
    world = read_world()
    assert world.keys() - COUNTRIES == {"-"}
    assert len(world) > 230
    assert {"US", "DE", "SG", "MT", "NZ"} <= world.keys()
    assert all(re.fullmatch(r"[Mlhvz0-9. -]+", path) for path in world.values())
    assert len(json.dumps(world)) < 100_000
