"""Keys and values: what a unit takes in a storage, and which passes a prompt is read in."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from locret.cache.budget import Budget
from locret.cache.plan import Stage, chunk_plan, stage_of
from locret.cache.storage import get_storage

DENSE = "dense"
PROBE = 4096  # units; more than any storage keeps in the model's precision


@dataclass(frozen=True, slots=True)
class UnitBytes:
    """What the key and the value of one token take in one KV head.

    Attributes:
        dense: bytes in the model's precision.
        packed: bytes as they are stored; fractions are shared by several units.
        recent: the newest units, which the storage keeps in the model's precision.
        beside: bytes beside each stored unit: how far a packed key is yet to be moved.
    """

    dense: int
    packed: float
    recent: int = 0
    beside: int = 0

    def of(self, units: int, fresh: int = 0) -> int:
        """Bytes of so many stored units.

        Args:
            units: how many.
            fresh: how many of them came with the latest pass and are not packed before the next.
        """
        recent = fresh + min(units - fresh, self.recent)
        return round(recent * self.dense + (units - recent) * self.packed) + units * self.beside

    @property
    def exact(self) -> bool:
        """Units are stored as the model computes them."""
        return self.packed == self.dense


def unit_bytes(head_dim: int, dtype: torch.dtype, storage: str = DENSE) -> UnitBytes:
    """Ask a storage what a unit takes: it is filled, and its own count of bytes is read.

    Raises:
        LocretError: unknown storage.
    """
    one = torch.zeros(1, 1, 1, head_dim, dtype=dtype)
    held = []
    for units in (PROBE, 2 * PROBE):
        many = one.expand(1, 1, units - 1, head_dim)
        # Twice, as some storages pack what they hold when the next units come.
        held.append(get_storage(storage)().append(many, many).append(one, one).nbytes)
    dense, packed = 2 * one.nbytes, (held[1] - held[0]) / PROBE
    recent = 0 if packed == dense else round((held[0] - PROBE * packed) / (dense - packed)) - 1
    return UnitBytes(dense, packed, recent)


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
