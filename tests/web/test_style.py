"""The colours can be told apart, in light and in dark."""

import re

import pytest

from anonproxy.web.pages import STYLE

SHEET = STYLE.decode()
COLOURS = {
    name: pair
    for name, *pair in re.findall(r"--([a-z0-9-]+): light-dark\((#[0-9a-f]{6})[0-9a-f]*, (#[0-9a-f]{6})", SHEET)
}
TEXTS = [("ink", "paper"), ("ink", "card"), ("ink", "hover"), ("ink", "bar"), ("soft", "paper"), ("soft", "card"),
         ("soft", "hover"), ("accent", "paper"), ("accent", "card"), ("card", "accent")]  # fmt: skip
SHAPES = [("accent", "card"), ("was", "card"), ("was", "paper"), ("shade-6", "card"), ("warn", "hover")]


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour.

    Source: WCAG 2.1, "relative luminance"
    """
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("front", "back", "least"), [*((*p, 4.5) for p in TEXTS), *((*p, 3.0) for p in SHAPES)])
def test_contrast(front: str, back: str, least: float, scheme: int) -> None:
    """Texts stand out by 4.5 to 1 (WCAG 1.4.3), lines and borders that mean something by 3 to 1 (1.4.11)."""
    assert contrast(COLOURS[front][scheme], COLOURS[back][scheme]) >= least


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_shades_go_one_way(scheme: int) -> None:
    """On the map and among the hours, more is always darker, or in the dark always lighter."""
    levels = [luminance(COLOURS[f"shade-{number}"][scheme]) for number in range(1, 7)]
    assert levels == sorted(levels, reverse=scheme == 0)


def test_nothing_is_loaded() -> None:
    """The sheet loads no font, picture or other sheet."""
    assert "url(" not in SHEET
    assert "@import" not in SHEET
    assert "@font-face" not in SHEET
