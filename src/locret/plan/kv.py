"""Which passes a prompt is read in, and how many units each of them meets and leaves."""

from __future__ import annotations

from dataclasses import dataclass

from locret.cache.budget import Budget
from locret.cache.plan import Stage, chunk_plan, stage_of


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward pass of a prompt, in units per KV head of a layer with a budget.

    Attributes:
        new: tokens of the pass.
        stored: units held before it.
        kept: units held after it.
        seen: tokens read before it.
        gaps: units have been evicted before it, so that compact positions move keys.
    """

    new: int
    stored: int
    kept: int
    seen: int
    gaps: bool = False

    @property
    def units(self) -> int:
        """What its queries attend to."""
        return self.stored + self.new

    @property
    def evicted(self) -> int:
        """Units that have been evicted before it."""
        return self.seen - self.stored

    @property
    def lost(self) -> int:
        """Units that have been evicted after it."""
        return self.seen + self.new - self.kept

    @property
    def cuts(self) -> bool:
        """Whether units are evicted."""
        return self.kept < self.units


def passes_of(length: int, budget: Budget, evicts: bool = True) -> list[Pass]:
    """The passes that a prompt of `length` tokens is read in, as the cache plans them."""
    passes: list[Pass] = []
    stored, seen = 0, 0
    for new in chunk_plan(0, length, length, budget):
        stage = stage_of(seen + new, new, length, budget)
        kept = min(stored + new, budget.size) if evicts and stage is not Stage.KEEP else stored + new
        gaps = bool(passes) and (passes[-1].cuts or passes[-1].gaps)
        passes.append(Pass(new, stored, kept, seen, gaps))
        stored, seen = kept, seen + new
    return passes


def turning_passes(length: int, budget: Budget, evicts: bool = True) -> list[Pass]:
    """Those of `passes_of` that can be the peak, and the last one; their number does not grow with the length.

    Passes are of a few kinds (before the first eviction, at it, after it, the rest of the body, the local tail), and of
    each kind the latest holds most.
    """

    def held(seen: int) -> int:
        return min(seen, budget.size) if evicts else seen

    body = max(length - budget.local, 0)
    whole, first_cut = body // budget.chunk, budget.size // budget.chunk
    turns = sorted({i for i in (first_cut - 1, first_cut, first_cut + 1, whole - 1) if 0 <= i < whole})
    spans = [(i * budget.chunk, budget.chunk) for i in turns]
    if body % budget.chunk:
        spans.append((whole * budget.chunk, body % budget.chunk))
    passes = [Pass(new, held(at), held(at + new), at, evicts and at > budget.size) for at, new in spans]
    for at in range(body, length, budget.chunk):
        new, stored = min(budget.chunk, length - at), held(body) + at - body
        passes.append(Pass(new, stored, stored + new, at, evicts and body > budget.size))
    return passes
