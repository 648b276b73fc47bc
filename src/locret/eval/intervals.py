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
    numbers = list(dict.fromkeys(documents))
    place = {document: number for number, document in enumerate(numbers)}
    own = [place[document] for document in documents]
    sums, counts = np.zeros((2, len(numbers), columns.shape[1]))  # [documents, parts]
    np.add.at(sums, own, np.nan_to_num(columns))
    np.add.at(counts, own, ~np.isnan(columns))
    drawn = np.random.default_rng(seed).multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)), resamples)
    with np.errstate(invalid="ignore"):  # a draw may have no line of a part
        scores = together((drawn @ sums) / (drawn @ counts))  # [resamples]
    if np.ptp(scores) < EXACT:
        low, high = wilson(min(max(float(scores[0]) / 100, 0.0), 1.0), len(numbers))
        return 100 * low, 100 * high
    low, high = np.nanpercentile(scores, ENDS)
    return float(low), float(high)
