"""Small SVG charts for the static report: curves, intervals, shares. Pure functions of numbers; no scripts, no fonts, no files.

Colours are CSS variables of the page (``--c0`` ... ``--c7``), so that charts follow its light and dark themes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from qi2.evaluation.bootstrap import Figure

Points = Sequence[tuple[float, float]]
COLOURS = 8


def line_chart(title: str, series: Mapping[str, Points], width: int = 320, height: int = 170) -> str:
    """Curves over steps: each series faint as measured and strong as a running mean; the last value stands at its end."""
    drawn = {name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in series.items()}
    drawn = {name: points for name, points in drawn.items() if points}
    if not drawn:
        return ""
    left, right, top, bottom = 44, 46, 26, 22
    x_low, x_high = _range([x for points in drawn.values() for x, _ in points], pad=0.0)
    y_low, y_high = _range([y for points in drawn.values() for _, y in points], pad=0.06)
    plot_width, plot_height = width - left - right, height - top - bottom

    def place(x: float, y: float) -> tuple[float, float]:
        return left + plot_width * (x - x_low) / (x_high - x_low), top + plot_height * (1 - (y - y_low) / (y_high - y_low))

    parts = [f'<text class="t" x="{left}" y="15">{escape(title)}</text>']
    for value in ticks(y_low, y_high, 3):
        _, y = place(x_low, value)
        parts.append(f'<line class="g" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="a e" x="{left - 5}" y="{y + 3.5:.1f}">{short(value)}</text>')
    for value in ticks(x_low, x_high, 3):
        x, _ = place(value, y_low)
        parts.append(f'<text class="a m" x="{x:.1f}" y="{height - 6}">{short(value)}</text>')
    for index, (_, points) in enumerate(drawn.items()):
        colour = f"var(--c{index % COLOURS})"
        smooth = running_mean(points)
        if len(points) > 20:
            parts.append(f'<path d="{_path(points, place)}" fill="none" stroke="{colour}" stroke-opacity=".28"/>')
        parts.append(f'<path d="{_path(smooth, place)}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        x, y = place(*smooth[-1])
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{colour}"/>')
        parts.append(f'<text class="a" x="{x + 5:.1f}" y="{y + 3.5:.1f}">{short(smooth[-1][1])}</text>')
    return _svg(width, height, title, parts)


def whisker(figure: Figure | None, low: float = 0.0, high: float = 1.0, width: int = 220, colour: int = 0) -> str:
    """One figure as a dot with its interval on a scale from ``low`` to ``high``; empty where nothing was measured."""
    if figure is None:
        return ""
    height, middle, pad = 18, 9, 5

    def place(value: float) -> float:
        return pad + (width - 2 * pad) * min(max((value - low) / (high - low), 0.0), 1.0)

    parts = [f'<line class="g" x1="{place(v):.1f}" x2="{place(v):.1f}" y1="2" y2="{height - 2}"/>' for v in ticks(low, high, 4)]
    if low < 0 < high:
        parts.append(f'<line class="z" x1="{place(0):.1f}" x2="{place(0):.1f}" y1="1" y2="{height - 1}"/>')
    start, end = place(figure.low), place(figure.high)
    ink = f'stroke="var(--c{colour})" stroke-width="5" stroke-opacity=".35"'
    parts.append(f'<line x1="{start:.1f}" x2="{end:.1f}" y1="{middle}" y2="{middle}" {ink}/>')
    parts.append(f'<circle cx="{place(figure.value):.1f}" cy="{middle}" r="4" fill="var(--c{colour})"/>')
    return _svg(width, height, f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]", parts)


def shares(parts: Mapping[str, float], unit: str = "s") -> str:
    """A horizontal bar divided by the parts' shares, in their order, with a legend that gives the amounts."""
    total = sum(parts.values())
    if total <= 0:
        return ""
    bar, legend = [], []
    for index, (name, value) in enumerate(parts.items()):
        share, colour = 100 * value / total, f"var(--c{index % COLOURS})"
        label = f"{name}: {short(value)} {unit} ({share:.0f}%)"
        bar.append(f'<i style="width:{share:.2f}%;background:{colour}" title="{escape(label)}">{f"{share:.0f}%" if share > 4 else ""}</i>')
        legend.append(f'<span><i style="background:{colour}"></i>{escape(name)} <b>{short(value)} {unit}</b></span>')
    return f'<div class="shares">{"".join(bar)}</div><div class="legend">{"".join(legend)}</div>'


def running_mean(points: Points) -> list[tuple[float, float]]:
    """Centred mean over about a twentieth of the points; short series stay as they are."""
    half = len(points) // 40
    if half == 0:
        return list(points)
    sums = [0.0]
    for _, y in points:
        sums.append(sums[-1] + y)
    smooth = []
    for i, (x, _) in enumerate(points):
        first, last = max(i - half, 0), min(i + half + 1, len(points))
        smooth.append((x, (sums[last] - sums[first]) / (last - first)))
    return smooth


def ticks(low: float, high: float, count: int) -> list[float]:
    """About ``count`` round values (1, 2 or 5 times a power of ten) inside [low, high]."""
    step = 10 ** math.floor(math.log10((high - low) / count))
    step *= next((m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= count), 10)
    first = math.ceil(low / step - 1e-9)
    return [0.0 if abs(i * step) < step * 1e-9 else i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """A number in at most about five characters: 12k, 340, 1.25, 0.034, 2e-5."""
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:.3g}M"
    if size >= 1e4:
        return f"{value / 1e3:.3g}k"
    if size >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.3g}" if size >= 1e-3 else f"{value:.0e}"


def _range(values: Sequence[float], pad: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        return low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    return low - pad * (high - low), high + pad * (high - low)


def _path(points: Points, place: Callable[[float, float], tuple[float, float]]) -> str:
    kept = points if len(points) <= 400 else [points[int(i * (len(points) - 1) / 399)] for i in range(400)]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in (place(*point) for point in kept))


def _svg(width: int, height: int, label: str, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{escape(label)}">'
    return f"{head}{''.join(parts)}</svg>"
