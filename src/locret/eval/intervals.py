"""How sure a score is."""

from __future__ import annotations

import math

Z95 = 1.959964  # two-sided 95 % of the normal distribution


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
