"""How sure a score is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959964  # two-sided 95 % of the normal distribution
ENDS = (2.5, 97.5)
RESAMPLES = 1000
EXACT = 1e-9  # per cent: less than any two different scores differ

Together = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def wilson(share: float, samples: int) -> tuple[float, float]:
    """The 95 % Wilson interval of a share of right answers.

    Args:
        share: right answers / samples, 0 to 1.
        samples: how many there were, at least 1.

    Returns:
        Low and high end, each 0 to 1.
    """
    spread = Z95**2 / samples
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap(
    columns: NDArray[np.float64],
    documents: Sequence[object],
    together: Together,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """The 95 % interval of a score, from documents drawn again with replacement.

    All questions of a document are drawn together, for their answers depend on what was kept of it. Where every draw
    gives the same score (all answers right, or a single document), drawing says nothing: then it is the Wilson interval
    of that score among as many documents.

    Args:
        columns: [lines, parts], per cent; NaN where a line does not count to a part.
        documents: [lines], whatever tells documents apart.
        together: [..., parts] -> [...]: the score out of the parts' means.
        seed: of the draws.
        resamples: how often to draw.

    Returns:
        Low and high end, per cent.
    """
    scores = together(drawn_means(columns, documents, seed, resamples))  # [resamples]
    if np.ptp(scores) < EXACT:
        low, high = wilson(min(max(float(scores[0]) / 100, 0.0), 1.0), len(set(documents)))
        return 100 * low, 100 * high
    low, high = np.nanpercentile(scores, ENDS)
    return float(low), float(high)


def drawn_interval(columns: NDArray[np.float64], documents: Sequence[object]) -> tuple[float | None, float | None]:
    """The 95 % interval of a mean that is no share, by the same draws: [lines, 1]; none of a single document."""
    if len(set(documents)) < 2:
        return None, None
    low, high = np.nanpercentile(drawn_means(columns, documents), ENDS)
    return float(low), float(high)


def drawn_means(
    columns: NDArray[np.float64], groups: Sequence[object], seed: int = 0, resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """Means of the columns, with whole groups of lines drawn again with replacement: [resamples, parts].

    Args:
        columns: [lines, parts]; NaN where a line does not count to a part, and in the result if no drawn line does.
        groups: [lines], whatever tells groups apart.
        seed: of the draws.
        resamples: how often to draw.
    """
    place = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    own, count = [place[group] for group in groups], len(place)
    sums, counts = np.zeros((2, count, columns.shape[1]))  # [groups, parts]
    np.add.at(sums, own, np.nan_to_num(columns))
    np.add.at(counts, own, ~np.isnan(columns))
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)
    with np.errstate(invalid="ignore"):
        means: NDArray[np.float64] = (drawn @ sums) / (drawn @ counts)
    return means
