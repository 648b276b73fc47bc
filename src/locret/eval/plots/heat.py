"""The needle heat map: how often facts are found, by where they stand and how long the document is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from locret.eval.plots.canvas import new_figure, save

DEPTHS = 10  # rows of the map


@dataclass(frozen=True, slots=True)
class Found:
    """A fact that was asked for.

    Attributes:
        length: of the document.
        depth: where in the document it stands, 0 (beginning) to 1.
        score: how right the answer was, 0 to 1.
    """

    length: int
    depth: float
    score: float


def needle_heatmap(found: Sequence[Found], path: Path, title: str = "", depths: int = DEPTHS) -> Path:
    """Mean score by depth and length, of one policy and budget; a field without a fact is white.

    Args:
        found: facts, at least one.
        path: the PNG.
        title: above the map.
        depths: how many rows of the map.

    Raises:
        LocretError: matplotlib is not installed, or the file cannot be written.
    """
    lengths = sorted({one.length for one in found})
    sums, counts = np.zeros((2, depths, len(lengths)))
    for one in found:
        place = min(int(one.depth * depths), depths - 1), lengths.index(one.length)
        sums[place] += one.score
        counts[place] += 1
    scores = np.divide(100 * sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    figure = new_figure(2.6 + 0.7 * len(lengths), 1.4 + 0.3 * depths)
    axis = figure.subplots()
    image = axis.imshow(scores, cmap="RdYlGn", vmin=0, vmax=100, aspect="auto")
    for (depth, column), score in np.ndenumerate(scores):
        if not np.isnan(score):
            axis.text(column, depth, f"{score:.0f}", ha="center", va="center", fontsize=7)
    axis.set_xticks(range(len(lengths)), [str(length) for length in lengths])
    axis.set_yticks(range(depths), [f"{100 * row // depths}-{100 * (row + 1) // depths}" for row in range(depths)])
    axis.set(xlabel="length (tokens)", ylabel="depth of the fact (%)")
    axis.set_title(title, fontsize=9)
    figure.colorbar(image, label="score")
    return save(figure, path)
