"""Changes of a buffer's units: kept units moved together, keys rotated. None makes a second buffer.

Gaps that are filled: `locret.cache.fillings`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from locret.cache.buffer import Buffer
from locret.cache.rotation import Move

LEAST_AT_ONCE = 256  # units that are moved at a time, if no more are evicted


@dataclass(frozen=True, slots=True)
class Compact:
    """The kept units move together, in their order.

    Attributes:
        kept: [batch, kv_heads, kept] int32, ascending.
        reads: units before.
    """

    kept: Tensor
    reads: int

    @property
    def leaves(self) -> int:
        """Kept units."""
        return self.kept.shape[-1]

    def carry_out(self, source: Buffer, target: Buffer) -> None:
        """Moves blocks from the front on: no unit moves up, so none is overwritten before it has been read."""
        size = self.leaves
        step = max(self.reads - size, LEAST_AT_ONCE)
        for held, made in ((source.keys, target.keys), (source.values, target.values)):
            for start in range(0, size, step):
                end = min(start + step, size)
                made[..., start:end, :] = taken(held, self.kept[..., start:end])


@dataclass(frozen=True, slots=True)
class Turn:
    """Keys are moved to other positions.

    Attributes:
        move: by how much.
        reads: units.
    """

    move: Move
    reads: int

    @property
    def leaves(self) -> int:
        """All of them."""
        return self.reads

    def carry_out(self, source: Buffer, target: Buffer) -> None:
        """Rotates the keys; values are copied if they change the buffer."""
        keys, values = source.between(0, self.reads)
        target.keys[..., : self.reads, :] = self.move(keys)
        if target is not source:
            target.values[..., : self.reads, :] = values


def taken(units: Tensor, indices: Tensor) -> Tensor:
    """The units [batch, kv_heads, units, width], contiguous, at `indices` [batch, kv_heads, taken]: a copy.

    Whole rows of a matrix are copied, several times as fast as by `gather`, which goes number by number.
    """
    rows = as_rows(indices, units.shape[-2])
    return units.view(-1, units.shape[-1]).index_select(0, rows.flatten()).view(*indices.shape, units.shape[-1])


def as_rows(indices: Tensor, units: int) -> Tensor:
    """Indices [batch, kv_heads, n] of each head's own units, as rows of the matrix of all heads' units."""
    heads = torch.arange(indices.shape[0] * indices.shape[1], device=indices.device)
    return indices + units * heads.view(*indices.shape[:2], 1)
