"""Gaps filled: kept units from beyond go into the slots of evicted ones, and most units stay where they are.

A filling is of several layers, whose units are chosen together (`locret.cache.cuts`); what is to happen to the units of
each is its own `Change`. There are two: one for values that can be looked at, one that nothing has to be waited for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
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
        comes, goes: [moves] each, ascending: which of all units goes to which of all slots, those of layers and heads
            behind one another.
        heads, units, slots: [moves] each: the same as a head of the layer (rows of the batch counted in), and a unit
            and a slot of that head.
        ends: where the moves of each layer begin, and where the last ones end.
        size: kept units.
        before: units before.
    """

    comes: Tensor
    goes: Tensor
    heads: Tensor
    units: Tensor
    slots: Tensor
    ends: tuple[int, ...]
    size: int
    before: int

    @classmethod
    def of(cls, keep: Tensor, size: int) -> HostFilling:
        """See `filling`."""
        layers, before = len(keep), keep.shape[-1]
        mask = keep.numpy().reshape(-1, before)
        # A head has as many gaps as units that stay from beyond.
        gaps, beyond = np.flatnonzero(~mask[:, :size]), np.flatnonzero(mask[:, size:])
        heads, rows = gaps // size, len(mask) // layers
        comes = beyond + (heads + 1) * size
        ends = tuple(np.searchsorted(heads, np.arange(layers + 1) * rows).tolist())
        moves = (comes, gaps, heads % rows, comes - heads * before, gaps - heads * size)
        come, go, head, unit, slot = (torch.from_numpy(part) for part in moves)
        return cls(come, go, head, unit, slot, ends, size, before)

    def filled(self, state: Tensor) -> Tensor:
        """See `Filling`."""
        made = state[..., : self.size].clone(memory_format=torch.contiguous_format)
        made.view(-1).index_copy_(0, self.goes, state.reshape(-1).index_select(0, self.comes))
        return made

    def change(self, layer: int) -> HostFill:
        """See `Filling`."""
        own = slice(*self.ends[layer : layer + 2])
        return HostFill(self.heads[own], self.units[own], self.slots[own], self.size, self.before)


@dataclass(frozen=True, slots=True)
class HostFill:
    """One layer of a `HostFilling`.

    Attributes:
        heads, units, slots: [moves] each: of which head (rows of the batch counted in) which unit goes to which slot.
        leaves: kept units.
        reads: units before.
    """

    heads: Tensor
    units: Tensor
    slots: Tensor
    leaves: int
    reads: int

    def carry_out(self, source: Buffer, target: Buffer) -> None:
        """Takes memory of as many units as move."""
        if target is not source:
            target.write(0, *source.between(0, self.leaves))
        come = torch.add(self.units, self.heads, alpha=source.slots)
        go = torch.add(self.slots, self.heads, alpha=target.slots)
        for held, made in ((source.keys, target.keys), (source.values, target.values)):
            width = held.shape[-1]
            made.view(-1, width).index_copy_(0, go, held.view(-1, width).index_select(0, come))


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
