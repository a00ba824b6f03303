"""Charts as inline SVG, drawn in a box that scales with the page.

Colours, weights and dashes are classes of the page's style sheet, so a chart follows the colour scheme of its reader.
Every chart has a title in words for those who cannot see it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from markupsafe import Markup, escape

Number: TypeAlias = int | float

LEFT, RIGHT, TOP, BOTTOM = 50.0, 14.0, 12.0, 44.0


@dataclass(frozen=True)
class Axis:
    """A scale from `low` to `high`, in logarithms if `log`, with ticks at given values."""

    title: str
    low: Number
    high: Number
    ticks: Sequence[Number]
    log: bool = False

    def share(self, value: Number) -> float:
        """How far along the axis a value lies, from 0 to 1."""
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return min(1.0, max(0.0, (at - low) / (high - low or 1.0)))


@dataclass(frozen=True)
class Point:
    """A value at x, and its interval."""

    x: Number
    y: Number
    low: Number
    high: Number


@dataclass(frozen=True)
class Series:
    """Points from left to right; `style` is a class of the style sheet."""

    name: str
    style: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Box:
    """The size of a chart with axes, and where values lie in it."""

    width: Number
    height: Number

    def across(self, x: Axis, value: Number) -> float:
        """Distance from the left edge."""
        return LEFT + x.share(value) * (self.width - LEFT - RIGHT)

    def down(self, y: Axis, value: Number) -> float:
        """Distance from the top edge."""
        return self.height - BOTTOM - y.share(value) * (self.height - TOP - BOTTOM)


LARGE, SMALL = Box(440.0, 280.0), Box(320.0, 200.0)
DOTS = 15
"""Lines of more points than this show no dots."""

NAMED = 14
"""Votes over more classes than this name only the elected and the true one."""

DIGITS = 12
"""Decimals of a tick."""

LETTER = 8.0
"""Width of a letter in the labels of a heatmap, at most on average."""

READABLE = 9.0
"""Side of a cell of a heatmap in which a count can be read."""

PERCENT = Axis("accuracy (%)", 0, 100, (0, 25, 50, 75, 100))


def lines(title: str, x: Axis, y: Axis, series: Sequence[Series], box: Box = LARGE) -> Markup:
    """A line per series, its interval as a band, and its points with their figures on hover."""
    drawn = [_series(box, x, y, one) for one in series]
    style = "chart large" if box == LARGE else "chart"
    return _svg(title, box.width, box.height, _frame(box, x, y), *drawn, style=style)


def strips(title: str, x: Axis, rows: Sequence[tuple[str, Number, Number, Number, Number]]) -> Markup:
    """A strip per row: (label, low, middle, high, most) as bar, mark and whisker."""
    pitch, left = 22.0, 16 + 6.4 * max(len(row[0]) for row in rows)
    height = TOP + pitch * len(rows) + BOTTOM

    def across(value: Number) -> float:
        return left + x.share(value) * (LARGE.width - left - RIGHT)

    parts = []
    for tick in x.ticks:
        at = across(tick)
        parts.append(_line(at, TOP, at, height - BOTTOM, "grid"))
        parts.append(_text(at, height - BOTTOM + 16, f"{tick:g}", "middle"))
    parts.append(_text((left + LARGE.width - RIGHT) / 2, height - 8, x.title, "middle", "axis"))
    for i, (label, low, middle, high, most) in enumerate(rows):
        y = TOP + pitch * (i + 0.5)
        figures = f"{label}: 10 % {low:g}, median {middle:g}, 90 % {high:g}, most {most:g}"
        parts.append(_text(left - 8, y + 4, label, "end"))
        parts.append(_line(across(low), y, across(most), y, "whisker"))
        width = max(across(high) - across(low), 2)
        bar = Markup('<rect class="strip" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="10" rx="3">{}</rect>')
        parts.append(bar.format(across(low), y - 5, width, _hover(figures)))
        parts.append(_line(across(middle), y - 7, across(middle), y + 7, "median"))
    return _svg(title, LARGE.width, height, *parts)


def heatmap(title: str, counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Markup:
    """Counts by true class (rows) and answer (columns); shade is the share of the row, and hovering tells each cell."""
    names, top, size = _short(classes), 32.0, 300.0
    cell = size / len(classes)
    left = 22 + (LETTER * max(map(len, names)) if cell >= READABLE else 0)
    parts = [_text(left + size / 2, 10, "answer", "middle", "axis"), _sideways(12, top + size / 2, "true class")]
    for i, row in enumerate(counts):
        total = sum(row) or 1
        if cell >= READABLE:
            parts.append(_text(left - 4, top + cell * (i + 0.5) + 4, names[i], "end"))
            parts.append(_text(left + cell * (i + 0.5), top - 4, names[i], "middle"))
        for j, count in enumerate(row):
            if count:
                said = _hover(f"{classes[i]}, answered {classes[j]}: {count:,}")
                parts.append(_cell(left + cell * j, top + cell * i, cell, count, count / total, i == j, said))
    return _svg(title, left + size + 4, top + size + 4, *parts)


def votes(
    title: str, shares: Sequence[Number], classes: Sequence[str], elected: int, true: int | None = None
) -> Markup:
    """A column per class, as high as its share of the votes; of many classes, those that matter are named."""
    width, height, floor = 280.0, 78.0, 60.0
    pitch, names = width / len(shares), _short(classes)
    parts = [_line(0, floor, width, floor, "grid")]
    for i, share in enumerate(shares):
        tall = share * 56
        style = "elected" if i == elected else "loser"
        bar = Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">{}</rect>')
        figures = _hover(f"{classes[i]}: {share:.0%}")
        parts.append(bar.format(style, i * pitch + pitch * 0.15, floor - tall, pitch * 0.7, tall, figures))
        if len(shares) <= NAMED or i in (elected, true):
            label = "true" if i == true else "class"
            parts.append(_text(pitch * (i + 0.5), floor + 13, names[i], "middle", label))
    return _svg(title, width, height, *parts)


def ticks(low: Number, high: Number, about: int = 5) -> list[float]:
    """Round values from `low` or below to `high` or above, about so many; all the same, if closer than digits tell."""
    if not high - low > 10.0**-DIGITS:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / about
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = min((m * magnitude for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(s - raw))
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(i * step, DIGITS) for i in range(first, last + 1)]


def _svg(title: str, width: Number, height: Number, *parts: Markup, style: str = "chart") -> Markup:
    opening = Markup('<svg class="{}" viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">')
    return opening.format(style, width, height, title) + Markup("").join(parts) + Markup("</svg>")


def _frame(box: Box, x: Axis, y: Axis) -> Markup:
    floor = box.height - BOTTOM
    parts = [_text((LEFT + box.width - RIGHT) / 2, box.height - 6, x.title, "middle", "axis")]
    for tick in y.ticks:
        at = box.down(y, tick)
        parts += [_line(LEFT, at, box.width - RIGHT, at, "grid"), _text(LEFT - 8, at + 4, f"{tick:g}", "end")]
    parts += [_text(box.across(x, tick), floor + 17, f"{tick:g}", "middle") for tick in x.ticks]
    return Markup("").join([*parts, _sideways(11, (TOP + floor) / 2, y.title)])


def _series(box: Box, x: Axis, y: Axis, series: Series) -> Markup:
    upper = [(box.across(x, p.x), box.down(y, p.high)) for p in series.points]
    lower = [(box.across(x, p.x), box.down(y, p.low)) for p in reversed(series.points)]
    curve = [(box.across(x, p.x), box.down(y, p.y)) for p in series.points]
    parts = [Markup('<polygon class="band" points="{}"/>').format(_points(upper + lower))]
    parts.append(Markup('<polyline class="line" points="{}"/>').format(_points(curve)))
    if len(curve) <= DOTS:
        parts += [_dot(series.name, *pair) for pair in zip(series.points, curve, strict=True)]
    return Markup('<g class="series {}">').format(series.style) + Markup("").join(parts) + Markup("</g>")


def _dot(name: str, point: Point, place: tuple[Number, Number]) -> Markup:
    figures = f"{name} at {point.x:g}: {point.y:.4g}"
    if point.high > point.low:
        figures += f" [{point.low:.4g}, {point.high:.4g}]"
    dot = Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="2.6">{}</circle>')
    return dot.format(*place, _hover(figures))


def _cell(x: Number, y: Number, size: Number, count: int, share: Number, right: bool, said: Markup) -> Markup:
    side = size - min(1.0, size / 4)
    square = Markup(
        '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.2f}" height="{:.2f}" fill-opacity="{:.3f}">{}</rect>'
    )
    shade = square.format("right" if right else "wrong", x, y, side, side, share**0.5, said)
    if size < READABLE:
        return shade
    style = "dark" if right and share > 0.62 else "count"
    return shade + _text(x + size / 2 - 0.5, y + size / 2 + 3.5, str(count), "middle", style)


def _hover(figures: str) -> Markup:
    return Markup("<title>{}</title>").format(figures)


def _points(points: Sequence[tuple[Number, Number]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _line(x1: Number, y1: Number, x2: Number, y2: Number, style: str) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(style, x1, y1, x2, y2)


def _text(x: Number, y: Number, text: str, anchor: str, style: str = "tick") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        style, x, y, anchor, escape(text)
    )


def _sideways(x: Number, y: Number, text: str) -> Markup:
    turned = Markup(
        '<text class="axis" text-anchor="middle" transform="translate({:.1f} {:.1f}) rotate(-90)">{}</text>'
    )
    return turned.format(x, y, text)


def _short(classes: Sequence[str]) -> list[str]:
    """Names of at most three letters, or the classes' numbers where these would not tell them apart."""
    names = [name[:3] for name in classes]
    return names if len({*names}) == len(names) else [str(number) for number in range(len(names))]
