"""Figures without a display, written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from locret.errors import LocretError
from locret.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 130


def load_figure() -> Any:
    """Matplotlib's `Figure`, and the canvas it is drawn on.

    Raises:
        LocretError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise LocretError("no plots without matplotlib: pip install 'locret[plot]'") from error
    return Figure, FigureCanvasAgg


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches.

    Raises:
        LocretError: matplotlib is not installed.
    """
    kind, canvas = load_figure()
    figure: Figure = kind(figsize=(width, height), layout="constrained")
    canvas(figure)
    return figure


def row_of_axes(figure: Figure, count: int) -> Any:
    """Panels side by side that share the scale of their scores."""
    return figure.subplots(1, count, sharey=True, squeeze=False)[0]


def save(figure: Figure, path: Path) -> Path:
    """Write the PNG; returns its path.

    Raises:
        LocretError: the file cannot be written.
    """
    write_whole(path, lambda temporary: figure.savefig(temporary, format="png", dpi=DPI))
    return path
