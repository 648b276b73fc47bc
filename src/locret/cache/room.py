"""How many slots a buffer is to have: as many as reading a prompt takes, if that is known beforehand."""

from __future__ import annotations

from dataclasses import dataclass

from locret.cache.budget import Budget

LEAST_GROWTH = 16  # slots more than asked for, at least, where a buffer has to grow


@dataclass(frozen=True, slots=True)
class Room:
    """The slots that a buffer is made with.

    Attributes:
        least: units that are going to be stored, as far as is known.
        most: units that a buffer is not to grow beyond by itself, but only when it has to hold more.
    """

    least: int = 0
    most: int = 0

    def of(self, needed: int) -> int:
        """Slots of a new buffer that has to hold `needed` units now: a quarter more, unless better is known."""
        if needed <= self.least:
            return self.least
        grown = needed + max(needed // 4, LEAST_GROWTH)
        return min(grown, self.most) if needed <= self.most else grown


def room_for(stored: int, seen: int, prompt_length: int | None, budget: Budget, evicts: bool) -> Room:
    """The room for what is stored and what is coming.

    Args:
        stored: units that are stored now.
        seen: tokens seen so far.
        prompt_length: tokens of the prompt in all; None where unknown.
        budget: how much is kept.
        evicts: whether the policy evicts at all.
    """
    if prompt_length is None:
        return Room(0, budget.size + budget.chunk if evicts else 0)
    if not evicts:
        return Room(most := stored + max(prompt_length - seen, 0), most)
    body = max(prompt_length - budget.local - seen, 0)
    tail = max(prompt_length - seen, 0) - body
    # The first chunk comes on top of what earlier turns left, which may be more than the budget.
    widest = max(stored + min(body, budget.chunk), min(stored + body, budget.size + budget.chunk))
    most = max(widest, (min(stored + body, budget.size) if body else stored) + tail)
    return Room(most, most)
