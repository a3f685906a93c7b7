"""The geometry of charts: figures in, places on a drawing out. Templates draw it as SVG, or as a table.

A drawing is as wide as its page. So places along the x axis are in percent of the width; lines, which know no percent,
are drawn in a box of 1000 × 200 units that is stretched.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

BOX_WIDTH: Final = 1000
BOX_HEIGHT: Final = 200
TICKS: Final = 4
# The colours of a map or a heat map, from hardly any to most.
SHADES: Final = 6
# Labels on the x axis: as many as fit on a screen, and every other of them on a phone.
LABELS: Final = 8


@dataclass(frozen=True, slots=True)
class Figure:
    """One point of a series: how it is called in a table and on the axis, and its figures now and a period before.

    A figure that isn't told is None: it is no zero, and the line has a gap there.
    """

    name: str
    label: str
    value: float | None
    before: float | None = None
    before_name: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis."""

    at: float
    label: str = ""
    value: int = 0
    is_minor: bool = False


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a figure stands: the middle and the left edge of its part of the width, and its height."""

    figure: Figure
    x: float
    left: float
    y: float
    anchor: str


@dataclass(frozen=True, slots=True)
class LineChart:
    """A line over time, with the period before."""

    line: str
    area: str
    before: str
    spots: tuple[Spot, ...]
    width: float  # of each spot's part of the width, in percent
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]

    @property
    def known(self) -> tuple[Figure, ...]:
        """Return the figures that are told, the lowest first."""
        return tuple(sorted((s.figure for s in self.spots if s.figure.value is not None), key=lambda it: it.value or 0))


def lay_out_line(figures: Sequence[Figure]) -> LineChart:
    """Lay out a series."""
    ticks = choose_ticks(max((max(it.value or 0, it.before or 0) for it in figures), default=0))
    top = ticks[-1]
    width = 100 / max(1, len(figures))
    spots = tuple(
        Spot(it, x := (index + 0.5) * width, index * width, _height(it.value or 0, top), _anchor(x))
        for index, it in enumerate(figures)
    )
    line = _split([(spot.x, it.value) for spot, it in zip(spots, figures, strict=True)], top)
    before = _split([(spot.x, it.before) for spot, it in zip(spots, figures, strict=True)], top)
    area = "".join(f"{_path([run])}V{BOX_HEIGHT}H{_box_x(run[0][0])}Z" for run in line if len(run) > 1)
    every = max(1, math.ceil(len(spots) / LABELS))
    x_ticks = tuple(
        Tick(spot.x, spot.figure.label, is_minor=bool(number % 2))
        for number, spot in enumerate(spots[every // 2 :: every])
    )
    y_ticks = tuple(Tick(_height(tick, top), value=tick) for tick in ticks)
    return LineChart(_path(line), area, _path(before), spots, width, x_ticks, y_ticks)


def choose_ticks(largest: float) -> list[int]:
    """Choose round numbers from zero to above the largest value, about as many as TICKS."""
    rough = max(largest, 1) / TICKS
    power = 10 ** math.floor(math.log10(rough)) if rough >= 1 else 1
    step = next(
        int(factor * power) for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough and factor * power % 1 == 0
    )
    return list(range(0, math.ceil(max(largest, 1) / step) * step + 1, step))


def _height(value: float, top: float) -> float:
    return round(BOX_HEIGHT * (1 - value / top), 1)


def _box_x(percent: float) -> float:
    return round(percent * BOX_WIDTH / 100, 1)


type Run = list[tuple[float, float]]


def _split(figures: Sequence[tuple[float, float | None]], top: float) -> list[Run]:
    """Split a line where figures are missing."""
    runs: list[Run] = [[]]
    for x, value in figures:
        if value is None:
            runs.append([])
        else:
            runs[-1].append((x, _height(value, top)))
    return [run for run in runs if run]


def _path(runs: Sequence[Run]) -> str:
    """Draw runs of places as lines; one place alone as a dot."""
    return "".join("M" + "L".join(f"{_box_x(x)} {y}" for x, y in run) + ("h0" if len(run) == 1 else "") for run in runs)


def _anchor(x: float) -> str:
    return "start" if x < 35 else "end" if x > 65 else "middle"


def choose_shade(value: float, largest: float, scale: Callable[[float], float] = float) -> int:
    """Choose the colour of a value, 0 for none."""
    if value <= 0 or largest <= 0:
        return 0
    return max(1, math.ceil(scale(value / largest) * SHADES))


def root(share: float) -> float:
    """Scale a share so that small ones can be told apart beside a large one."""
    return math.sqrt(share)


@cache
def read_world() -> dict[str, str]:
    """Return the outline of each country as the `d` of an SVG path, in a box of 1000 × 430."""
    text = files(__package__).joinpath("data", "world.json").read_text(encoding="utf-8")
    outlines: dict[str, str] = json.loads(text)
    return outlines
