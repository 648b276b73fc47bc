"""Changes of a buffer's units: gaps filled, kept units moved together, keys rotated. None makes a second buffer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from locret.cache.buffer import Buffer, Change
from locret.cache.rotation import Move
from locret.policies.selection_host import has_values

LEAST_AT_ONCE = 256  # units that are moved at a time, if no more are evicted


def filling(kept: Tensor, units: int) -> Change:
    """Units from beyond the kept ones go into evicted slots; the others stay where they are.

    Args:
        kept: [batch, kv_heads, kept]: the unit that is in each slot afterwards; slot i keeps unit i, or gets one from
            beyond.
        units: how many there are.
    """
    return Moved.of(kept, units) if has_values(kept) else Fill.of(kept, units)


@dataclass(frozen=True, slots=True)
class Moved:
    """Gaps filled where values can be looked at: nothing is touched but what moves.

    Attributes:
        heads, units, slots: [moves] each: of which head (rows of the batch counted in) which unit goes to which slot.
        size: kept units.
        reads: units before.
    """

    heads: Tensor
    units: Tensor
    slots: Tensor
    size: int
    reads: int

    @classmethod
    def of(cls, kept: Tensor, units: int) -> Moved:
        """See `filling`."""
        size, comes = kept.shape[-1], kept.numpy().reshape(-1)
        at = np.flatnonzero(comes >= size)
        heads, slots = np.divmod(at, size)
        return cls(torch.from_numpy(heads), torch.from_numpy(comes[at]), torch.from_numpy(slots), size, units)

    def carry_out(self, source: Buffer, target: Buffer) -> None:
        """Takes memory of as many units as move."""
        if target is not source:
            target.write(0, *source.between(0, self.size))
        come, go = self.heads * source.slots + self.units, self.heads * target.slots + self.slots
        for held, made in ((source.keys, target.keys), (source.values, target.values)):
            width = held.shape[-1]
            made.view(-1, width).index_copy_(0, go, held.view(-1, width).index_select(0, come))


@dataclass(frozen=True, slots=True)
class Fill:
    """Gaps filled without waiting for a device to say how many there are: every unit beyond is written somewhere.

    Attributes:
        slots: [batch, kv_heads, beyond] int32: where each unit beyond goes; its own slot if it is evicted.
        reads: units before.
    """

    slots: Tensor
    reads: int

    @classmethod
    def of(cls, kept: Tensor, units: int) -> Fill:
        """See `filling`."""
        size = kept.shape[-1]
        slots = torch.arange(units, dtype=torch.int32, device=kept.device).expand(*kept.shape[:-1], units).clone()
        slots.scatter_(-1, kept, torch.arange(size, dtype=torch.int32, device=kept.device).expand_as(kept))
        return cls(slots[..., size:].clone(), units)

    def carry_out(self, source: Buffer, target: Buffer) -> None:
        """Moves at most as many units as lie beyond; memory of as many at a time."""
        size = self.reads - self.slots.shape[-1]
        if target is not source:
            target.write(0, *source.between(0, size))
        rows = _rows(self.slots, target.slots).flatten()
        for held, made in zip(source.between(size, self.reads), (target.keys, target.values), strict=True):
            beyond = held.clone(memory_format=torch.contiguous_format).view(-1, held.shape[-1])
            made.view(-1, made.shape[-1]).index_copy_(0, rows, beyond)


@dataclass(frozen=True, slots=True)
class Compact:
    """The kept units move together, in their order.

    Attributes:
        kept: [batch, kv_heads, kept] int32, ascending.
        reads: units before.
    """

    kept: Tensor
    reads: int

    def carry_out(self, source: Buffer, target: Buffer) -> None:
        """Moves blocks from the front on: no unit moves up, so none is overwritten before it has been read."""
        size = self.kept.shape[-1]
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
    rows = _rows(indices, units.shape[-2])
    return units.view(-1, units.shape[-1]).index_select(0, rows.flatten()).view(*indices.shape, units.shape[-1])


def _rows(indices: Tensor, units: int) -> Tensor:
    """Indices [batch, kv_heads, n] of each head's own units, as rows of the matrix of all heads' units."""
    heads = torch.arange(indices.shape[0] * indices.shape[1], device=indices.device)
    return indices + units * heads.view(*indices.shape[:2], 1)
