"""Scores as lines with their intervals: against the budget, and against the bytes that are held."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from locret.eval.plots.canvas import new_figure, row_of_axes, save
from locret.eval.results import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL = (4.2, 3.4)  # inches
LEGEND = 1.6  # inches
CYCLE = 10  # colours of matplotlib's own cycle
SCORES = (-3, 103)
BAND = 0.15  # opacity
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Point:
    """A score with its interval; of several seeds, the means."""

    place: float
    score: float
    low: float
    high: float


def score_by_budget(rows: Sequence[Row], path: Path, title: str = "") -> Path:
    """A panel for each length, a line for each policy, a band for the 95 % interval.

    A policy that evicts nothing (its budget is the length) is a dotted line across.

    Args:
        rows: of one task; several seeds are averaged.
        path: the PNG.
        title: above the panels.

    Raises:
        LocretError: matplotlib is not installed, or the file cannot be written.
    """

    def draw(axis: Axes, policy: str, own: Sequence[Row], color: Any) -> None:
        if all(row.cell.budget.size >= row.cell.length for row in own):
            [point] = _points(own, lambda row: 0)
            axis.axhspan(point.low, point.high, color=color, alpha=BAND, linewidth=0)
            axis.axhline(point.score, color=color, linestyle=":", label=policy)
        else:
            _line(axis, policy, _points(own, lambda row: row.cell.budget.size), color)

    return _panels(rows, path, title, "budget (units per KV head)", draw)


def score_by_kv_bytes(rows: Sequence[Row], path: Path, title: str = "") -> Path:
    """The same against the bytes of keys and values that are held after reading; arguments as in `score_by_budget`."""

    def draw(axis: Axes, policy: str, own: Sequence[Row], color: Any) -> None:
        _line(axis, policy, _points(own, lambda row: row.measures.kv_bytes / MIB), color)

    return _panels(rows, path, title, "KV cache after reading (MiB)", draw)


def _panels(
    rows: Sequence[Row], path: Path, title: str, label: str, draw: Callable[[Axes, str, Sequence[Row], Any], None]
) -> Path:
    lengths = sorted({row.cell.length for row in rows})
    policies = list(dict.fromkeys(row.cell.policy for row in rows))
    figure = new_figure(PANEL[0] * len(lengths) + LEGEND, PANEL[1])
    axes = row_of_axes(figure, len(lengths))
    for axis, length in zip(axes, lengths, strict=True):
        for number, policy in enumerate(policies):
            own = [row for row in rows if (row.cell.length, row.cell.policy) == (length, policy)]
            if own:
                draw(axis, policy, own, _color(number, len(policies)))
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set(title=f"{length} tokens", xlabel=label, ylim=SCORES)
        axis.grid(alpha=BAND)
    axes[0].set_ylabel("score")
    lines = {label: line for axis in axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(lines.values(), lines.keys(), loc="outside right center", fontsize=8)
    figure.suptitle(title)
    return save(figure, path)


def _color(number: int, count: int) -> Any:
    """The cycle's own colours as long as each is there once, then a map of twice as many."""
    from matplotlib import colormaps

    return f"C{number}" if count <= CYCLE else colormaps["tab20"](number % (2 * CYCLE))


def _line(axis: Axes, policy: str, points: Sequence[Point], color: Any) -> None:
    places = [point.place for point in points]
    lows, highs = [point.low for point in points], [point.high for point in points]
    axis.fill_between(places, lows, highs, color=color, alpha=BAND, linewidth=0)
    axis.vlines(places, lows, highs, color=color, linewidth=0.8)  # the interval of a point that stands alone
    axis.plot(places, [point.score for point in points], marker="o", markersize=4, color=color, label=policy)


def _points(rows: Sequence[Row], place: Callable[[Row], float]) -> list[Point]:
    """From left to right, rows at one place averaged."""
    at: dict[float, list[Row]] = {}
    for row in rows:
        at.setdefault(place(row), []).append(row)
    return [
        Point(
            where,
            fmean(row.measures.score for row in own),
            fmean(row.measures.low for row in own),
            fmean(row.measures.high for row in own),
        )
        for where, own in sorted(at.items())
    ]
