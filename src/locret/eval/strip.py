"""Which parts of a document were kept: the shares, and a strip of them for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from locret.cache import BudgetCache


@dataclass(frozen=True, slots=True)
class Signs:
    """What a strip is drawn with: so many levels of density, a needle that was found, one that was not."""

    levels: str
    found: str
    missed: str


DRAWN = Signs(" ▁▂▃▄▅▆▇█", "▲", "△")
TYPED = Signs(" .:-=+*#@", "^", "-")  # for terminals that know ASCII alone
DENSE = 0.95


@dataclass(frozen=True)
class KeptDocument:
    """What a policy kept of a document.

    Attributes:
        shares: [length], for each position the share of (layer, KV head) pairs that kept it, 0 to 1.
        needles: positions of the needles -> whether the question about it was answered.
    """

    shares: NDArray[np.float64]
    needles: Mapping[int, bool]


def kept_shares(cache: BudgetCache, length: int) -> NDArray[np.float64]:
    """For each of the first `length` positions, the share of (layer, KV head) pairs that hold it.

    Returns:
        [length], 0 to 1; of a batch, the mean.
    """
    counts = np.zeros(length)
    pairs = 0
    for layer in range(len(cache.layers)):
        positions = cache.kept_positions(layer).cpu().numpy()  # [batch, kv_heads, kept]
        pairs += positions.shape[0] * positions.shape[1]
        counts += np.bincount(positions[positions < length], minlength=length)
    return counts / pairs


def binned(shares: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Means of equal stretches: [length] -> [bins], or fewer if the document is shorter."""
    edges = np.linspace(0, len(shares), min(bins, len(shares)) + 1).astype(int)
    return np.add.reduceat(shares, edges[:-1]) / np.diff(edges)


def strip(kept: KeptDocument, width: int, signs: Signs = DRAWN) -> tuple[str, str]:
    """Two lines: how densely each stretch was kept, and under it where the needles are.

    The densest twentieth of the stretches fill their characters (one alone, such as the local tail, would flatten all
    others); a stretch of which anything was kept is never blank. A needle is drawn filled if its question was
    answered, hollow if not.
    """
    density = binned(kept.shares, width)
    top = np.quantile(density, DENSE) or density.max() or 1.0
    levels = np.ceil(np.minimum(density / top, 1) * (len(signs.levels) - 1)).astype(int)
    marks = [" "] * len(density)
    for position, answered in sorted(kept.needles.items(), key=lambda item: item[1], reverse=True):
        marks[position * len(density) // len(kept.shares)] = signs.found if answered else signs.missed
    return "".join(signs.levels[level] for level in levels), "".join(marks)
