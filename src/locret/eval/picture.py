"""The picture of what was kept, as PNG; needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from locret.errors import LocretError
from locret.eval.strip import KeptDocument, binned
from locret.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 512
FOUND, MISSED = "#2a9d3a", "#c8342f"
HEADER, PANEL, FOOTER = 0.5, 0.85, 0.55  # inches


def save_picture(path: Path, documents: Mapping[str, KeptDocument], title: str) -> None:
    """Draw, for each policy, where in the document the kept units are, with the needles under it.

    Args:
        path: the PNG to write, whole or not at all.
        documents: heading of each panel -> what was kept.
        title: above everything.

    Raises:
        LocretError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise LocretError("no picture without matplotlib: pip install 'locret[plot]'") from error
    height = HEADER + PANEL * len(documents) + FOOTER
    figure = Figure(figsize=(9, height))
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(documents), 1, sharex=True, squeeze=False)[:, 0]
    figure.subplots_adjust(left=0.03, right=0.97, bottom=FOOTER / height, top=1 - 1.5 * HEADER / height, hspace=1.6)
    for axis, (heading, kept) in zip(axes, documents.items(), strict=True):
        _panel(axis, heading, kept)
    axes[-1].tick_params(bottom=True, labelbottom=True)
    axes[-1].set_xlabel("position in the document (tokens); darker: kept by more layers and KV heads", fontsize=8)
    figure.suptitle(title, x=0.03, y=1 - 0.12 / height, ha="left", va="top", fontsize=10)
    write_whole(path, lambda temporary: figure.savefig(temporary, format="png", dpi=110))


def _panel(axis: Axes, heading: str, kept: KeptDocument) -> None:
    length = len(kept.shares)
    shade = np.sqrt(binned(kept.shares, BINS))[None]  # the root brings out small shares
    axis.imshow(shade, aspect="auto", cmap="Blues", vmin=0, vmax=1, extent=(0, length, 0, 1), interpolation="nearest")
    for answered, color in ((True, FOUND), (False, MISSED)):
        places = [position for position, found in kept.needles.items() if found == answered]
        axis.plot(places, [-0.3] * len(places), "^", color=color, markersize=6, clip_on=False)
    axis.set_xlim(0, length)
    axis.set_ylim(0, 1)
    axis.set_yticks([])
    axis.tick_params(bottom=False, labelbottom=False, pad=10, labelsize=8)
    axis.set_title(heading, loc="left", fontsize=9)
