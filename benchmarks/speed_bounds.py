"""The bounds that speed is held to, and whether the results keep them.

Locret over the limit is judged twice: by readings in turns, and by chunks in turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Bound:
    """One bound.

    Attributes:
        what: the quantity.
        value: as measured: the median of the ratios within the rounds.
        of_medians: the same as a ratio of medians.
        limit: what it may be.
        at_least: it must not be less than the limit; else it must not be more.
    """

    what: str
    value: float
    of_medians: float
    limit: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Judged by the rounds, whose runs are next to each other in time."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def as_json(self) -> dict[str, Any]:
        """All of it, and whether it holds."""
        return {**asdict(self), "holds": self.holds}

    def __str__(self) -> str:
        sense = "at least" if self.at_least else "at most"
        return (
            f"{'pass' if self.holds else 'FAIL'}  {self.what}: {self.value:.3f} by rounds, {self.of_medians:.3f} by "
            f"medians; {sense} {self.limit}"
        )


def bounds(parts: dict[str, Any], limits: dict[str, float]) -> list[Bound]:
    """The bounds of all parts that have been measured."""
    return list(_bounds(parts, limits))


def _bounds(parts: dict[str, Any], limits: dict[str, float]) -> Iterator[Bound]:
    for name, part in parts.items():
        kind, _, model = name.partition("/")
        if kind in ("prefill", "chunks"):
            where = f"{model}, {part['config']['subject']['length']} tokens"
            if ratio := part.get("locret_over_limit"):
                what = "seconds of locret over limit" + (", chunks in turns" if kind == "chunks" else "")
                yield _bound(f"{where}: {what}", ratio, limits["locret_over_limit"])
            if share := part.get("flop_share"):
                yield _bound(f"{where}: gain over full per gain in FLOPs", share, limits["flop_share"], at_least=True)
        if kind == "decode":
            many, few, *_ = (row["seen"] for row in part["rows"])
            what = f"writing after {many} tokens over after {few}"
            yield _bound(what, part["many_over_few"], limits["decode_ratio"])


def _bound(what: str, ratio: dict[str, float], limit: float, at_least: bool = False) -> Bound:
    return Bound(what, ratio["of_rounds"], ratio["of_medians"], limit, at_least)
