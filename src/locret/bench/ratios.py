"""How two contestants compare: the ratio of their medians, and the median of their ratios round by round.

Runs of one round are next to each other in time, so a machine that slows down for a while changes both alike and their
ratio hardly at all; medians over all rounds may come from different moods. Where the two differ much, neither is to be
trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from locret.bench.measure import Row
from locret.errors import LocretError


@dataclass(frozen=True, slots=True)
class Ratio:
    """One quantity over another.

    Attributes:
        of_medians: the median of all rounds over the median of all rounds.
        of_rounds: the median of the ratios within the rounds.
        rounds: the ratio within each round.
    """

    of_medians: float
    of_rounds: float
    rounds: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        """All three."""
        return asdict(self)


def ratio(over: Sequence[float], under: Sequence[float]) -> Ratio:
    """The first over the second, both in the order of their rounds.

    Raises:
        LocretError: there are no rounds, or not as many of the one as of the other.
    """
    if not over or len(over) != len(under):
        raise LocretError(f"{len(over)} rounds over {len(under)}: a ratio needs the same number of both, at least 1")
    rounds = tuple(a / b for a, b in zip(over, under, strict=True))
    return Ratio(median(over) / median(under), median(rounds), rounds)


def prefill_ratio(over: Row, under: Row) -> Ratio | None:
    """Seconds of reading of one contestant over those of another; None if one of them ran out of memory."""
    if not over.runs or not under.runs:
        return None
    return ratio(*([run.prefill_seconds for run in row.runs] for row in (over, under)))
