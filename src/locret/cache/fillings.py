"""Gaps filled: kept units from beyond go into the slots of evicted ones, and most units stay where they are.

A filling is of several layers, whose units are chosen together (`locret.cache.cuts`); what is to happen to the units of
each is its own `Change`. There are two: one for values that can be looked at, one that nothing has to be waited for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from locret.cache.buffer import Buffer, Change
from locret.cache.changes import as_rows
from locret.models.placement import has_values
from locret.policies.selection import select_slots


class Filling(Protocol):
    """What becomes of the units of several layers."""

    def filled(self, state: Tensor) -> Tensor:
        """What belongs to the units, put as they are: [layers, batch, kv_heads, units] -> [..., kept]."""
        ...

    def change(self, layer: int) -> Change:
        """What is to happen to keys and values of one of the layers."""
        ...


def filling(keep: Tensor, size: int) -> Filling:
    """Slot i keeps unit i if that stays; the gaps get the units from beyond, both ascending.

    Args:
        keep: [layers, batch, kv_heads, units], True `size` times in every head.
        size: how many units stay.
    """
    return HostFilling.of(keep, size) if has_values(keep) else QueuedFilling.of(keep, size)


@dataclass(frozen=True, slots=True)
class HostFilling:
    """A filling where values can be looked at: nothing is touched but what moves.

    Attributes:
        comes, goes: [moves] each, ascending: which of all units goes to which of all kept slots, those of layers and
            heads behind one another.
        size: kept units.
        changes: what that is in each layer.
    """

    comes: NDArray[np.intp]
    goes: NDArray[np.intp]
    size: int
    changes: tuple[HostFill, ...]

    @classmethod
    def of(cls, keep: Tensor, size: int) -> HostFilling:
        """See `filling`."""
        layers, before = len(keep), keep.shape[-1]
        mask = keep.numpy().reshape(-1, before)
        # A head has as many gaps as units that stay from beyond.
        gaps, beyond = np.flatnonzero(~mask[:, :size]), np.flatnonzero(mask[:, size:])
        rows, heads = gaps // size, len(mask) // layers
        comes, own = beyond + (rows + 1) * size, rows % heads
        ends = np.searchsorted(rows, np.arange(1, layers) * heads).tolist()
        # Of a layer alone, its heads as wide as there were units.
        parts = (own, comes - (rows - own) * before, gaps - rows * size + own * before)
        moves = zip(*(torch.from_numpy(part).tensor_split(ends) for part in parts), strict=True)
        return cls(comes, gaps, size, tuple(HostFill(at, come, go, size, before) for at, come, go in moves))

    def filled(self, state: Tensor) -> Tensor:
        """See `Filling`."""
        values = state.detach().numpy()
        made = values[..., : self.size].copy()
        made.reshape(-1)[self.goes] = values.reshape(-1)[self.comes]
        return torch.from_numpy(made)

    def change(self, layer: int) -> HostFill:
        """See `Filling`."""
        return self.changes[layer]


@dataclass(frozen=True, slots=True)
class HostFill:
    """One layer of a `HostFilling`.

    Attributes:
        heads: [moves]: the head of each, rows of the batch counted in.
        come, go: [moves] each: which unit goes to which slot, `reads` of them to a head.
        leaves: kept units.
        reads: units before.
    """

    heads: Tensor
    come: Tensor
    go: Tensor
    leaves: int
    reads: int

    def carry_out(self, source: Buffer, target: Buffer) -> None:
        """Takes memory of as many units as move."""
        if target is not source:
            target.write(0, *source.between(0, self.leaves))
        come, go = self._in(source, self.come), self._in(target, self.go)
        for held, made in ((source.keys, target.keys), (source.values, target.values)):
            width = held.shape[-1]
            made.view(-1, width).index_copy_(0, go, held.view(-1, width).index_select(0, come))

    def _in(self, buffer: Buffer, places: Tensor) -> Tensor:
        """The places in a buffer, which mostly has as many slots as units are read."""
        more = buffer.slots - self.reads
        return torch.add(places, self.heads, alpha=more) if more else places


@dataclass(frozen=True, slots=True)
class QueuedFilling:
    """A filling without waiting for a device to say how many units move: every unit beyond is written somewhere.

    Attributes:
        kept: [layers, batch, kv_heads, kept]: the unit that is in each slot afterwards.
        slots: [layers, batch, kv_heads, beyond] int32: where each unit beyond goes; its own slot if it is evicted.
    """

    kept: Tensor
    slots: Tensor

    @classmethod
    def of(cls, keep: Tensor, size: int) -> QueuedFilling:
        """See `filling`."""
        kept, units = select_slots(keep, size), keep.shape[-1]
        slots = torch.arange(units, dtype=torch.int32, device=kept.device).expand(keep.shape).clone()
        slots.scatter_(-1, kept, torch.arange(size, dtype=torch.int32, device=kept.device).expand_as(kept))
        return cls(kept, slots[..., size:].clone())

    def filled(self, state: Tensor) -> Tensor:
        """See `Filling`."""
        return state.gather(-1, self.kept)

    def change(self, layer: int) -> QueuedFill:
        """See `Filling`."""
        return QueuedFill(self.slots[layer], self.kept.shape[-1] + self.slots.shape[-1])


@dataclass(frozen=True, slots=True)
class QueuedFill:
    """One layer of a `QueuedFilling`.

    Attributes:
        slots: [batch, kv_heads, beyond] int32: where each unit beyond goes; its own slot if it is evicted.
        reads: units before.
    """

    slots: Tensor
    reads: int

    @property
    def leaves(self) -> int:
        """Kept units."""
        return self.reads - self.slots.shape[-1]

    def carry_out(self, source: Buffer, target: Buffer) -> None:
        """Moves at most as many units as lie beyond; memory of as many at a time."""
        size = self.leaves
        if target is not source:
            target.write(0, *source.between(0, size))
        rows = as_rows(self.slots, target.slots).flatten()
        for held, made in zip(source.between(size, self.reads), (target.keys, target.values), strict=True):
            beyond = held.clone(memory_format=torch.contiguous_format).view(-1, held.shape[-1])
            made.view(-1, made.shape[-1]).index_copy_(0, rows, beyond)
