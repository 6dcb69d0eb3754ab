"""Charts as inline SVG, without scripts: colors are classes of the page, for light and dark."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape

from scoreline.pipelines.load_test.judge.elements import Floats
from scoreline.pipelines.load_test.report.numbers import number

WIDTH, HEIGHT = 420, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 26, 34
_TICKS = 4
# Labels of ticks from here on have a unit prefix.
_SHORT = 1e5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """Points of a chart; points that are not finite make gaps.

    Attributes:
      name: its name in the legend.
      x, y: its points.
      style: class of its color: a, b, c or limit.
      is_dashed: whether the line is dashed.
      has_line, has_dots: what is drawn.
    """

    name: str
    x: Floats
    y: Floats
    style: str = "a"
    is_dashed: bool = False
    has_line: bool = True
    has_dots: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis from `low` to `high`, with ticks at round numbers."""

    low: float
    high: float
    begin: float
    end: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Return the place of a value on the canvas."""
        share = (value - self.low) / (self.high - self.low)
        return self.begin + share * (self.end - self.begin)


def make_axis(values: Floats, begin: float, end: float, min_step: float = 0.0) -> Axis:
    """Return an axis from 0, or from a negative value, to a round number above all values.

    Args:
      values: the values.
      begin: the place of its low end on the canvas.
      end: the place of its high end.
      min_step: minimum distance of two ticks: 1 for things that are counted.
    """
    finite = values[np.isfinite(values)]
    low = min(0.0, float(finite.min())) if len(finite) else 0.0
    high = float(finite.max()) if len(finite) else 1.0
    high = high if high > low else low + 1.0
    step = max(_round_step((high - low) / _TICKS), min_step)
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    ticks = tuple(step * at for at in range(first, last + 1))
    return Axis(low=ticks[0], high=ticks[-1], begin=begin, end=end, ticks=ticks)


def _round_step(size: float) -> float:
    """Return 1, 2 or 5 times a power of ten, at least `size`."""
    power = 10.0 ** math.floor(math.log10(size))
    return next((unit * power for unit in (1.0, 2.0, 5.0) if size <= unit * power), 10 * power)


def draw_chart(
    title: str, x_title: str, curves: Sequence[Curve], *, min_step: float = 0.0
) -> Markup:
    """Return a chart of curves.

    Args:
      title: its title, with the unit of y.
      x_title: the unit of x.
      curves: at least one curve.
      min_step: minimum distance of two ticks of x.
    """
    all_x = np.concatenate([curve.x for curve in curves])
    x = make_axis(all_x, _LEFT, WIDTH - _RIGHT, min_step)
    y = make_axis(np.concatenate([curve.y for curve in curves]), HEIGHT - _BOTTOM, _TOP)
    parts = [_grid(x, y, x_title), *(_curve(curve, x, y) for curve in curves)]
    names = Markup("").join(_legend(curve) for curve in curves)
    return Markup(
        '<figure><figcaption>{}</figcaption><svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}'
        '</svg><p class="legend">{}</p></figure>'
    ).format(title, WIDTH, HEIGHT, _label(title, curves), Markup("").join(parts), names)


def _label(title: str, curves: Sequence[Curve]) -> str:
    """Return the chart in words, for readers who do not see it."""
    told = []
    for curve in curves:
        finite = curve.y[np.isfinite(curve.y)]
        if len(finite):
            told.append(f"{curve.name} from {number(finite.min())} to {number(finite.max())}")
    return f"{title}: {'; '.join(told) or 'no data'}"


def _grid(x: Axis, y: Axis, x_title: str) -> Markup:
    lines = [
        Markup('<path class="grid" d="M{:.1f} {:.1f}H{:.1f}"/>').format(x.begin, y.at(tick), x.end)
        for tick in y.ticks
    ]
    texts = [
        Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="end">{}</text>').format(
            x.begin - 6, y.at(tick) + 4, _tick(tick)
        )
        for tick in y.ticks
    ]
    texts += [
        Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
            x.at(tick), y.begin + 16, "end" if tick == x.high else "middle", _tick(tick)
        )
        for tick in x.ticks
    ]
    middle = (x.begin + x.end) / 2
    title = Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
        middle, HEIGHT - 4, x_title
    )
    return Markup("").join([*lines, *texts, title])


def _tick(value: float) -> str:
    """Return the label of a tick; large ones are short, as 600 k."""
    for unit, size in ((" G", 1e9), (" M", 1e6), (" k", 1e3)):
        if abs(value) >= max(size, _SHORT):
            return f"{number(value / size)}{unit}"
    return number(value)


def _curve(curve: Curve, x: Axis, y: Axis) -> Markup:
    """Return one curve."""
    finite = np.isfinite(curve.x) & np.isfinite(curve.y)
    drawn = Markup("")
    if curve.has_line:
        path, is_new = [], True
        for at_x, at_y, is_finite in zip(curve.x, curve.y, finite, strict=True):
            if is_finite:
                path.append(f"{'M' if is_new else 'L'}{x.at(at_x):.1f} {y.at(at_y):.1f}")
            is_new = not is_finite
        drawn += Markup('<path class="line {}{}" d="{}"/>').format(
            curve.style, " dashed" if curve.is_dashed else "", "".join(path)
        )
    if curve.has_dots:
        for at_x, at_y in zip(curve.x[finite], curve.y[finite], strict=True):
            drawn += Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="4"/>').format(
                curve.style, x.at(at_x), y.at(at_y)
            )
    return drawn


def _legend(curve: Curve) -> Markup:
    line = Markup('<path class="line {}{}" d="M0 6H22"/>').format(
        curve.style, " dashed" if curve.is_dashed else ""
    )
    dot = Markup('<circle class="dot {}" cx="11" cy="6" r="4"/>').format(curve.style)
    mark = (line if curve.has_line else Markup("")) + (dot if curve.has_dots else Markup(""))
    return Markup('<span><svg class="key" viewBox="0 0 22 12">{}</svg> {}</span> ').format(
        mark, escape(curve.name)
    )
