"""Compact positions: the slot that each unit has as its rotary position, and when the kept units are moved together.

A key is stored as it arrived and is moved on its way to attention, so it is rounded once, not at every cut: in bfloat16
small moves would otherwise be lost one by one. It is moved for good when a prompt ends, as decoding reads it often.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

from locret.cache.sliding import move_sliding

if TYPE_CHECKING:
    from locret.cache.budget_cache import BudgetCache


class Packing(IntEnum):
    """How the units of a layer lie in their slots; of two together it is the greater."""

    PACKED = 0  # unit i is in slot i
    GAPPED = 1  # units were evicted while an answer is written: the gaps stay until the slots run out
    DUE = 2  # units were evicted while a prompt is read: from the next pass on unit i is in slot i


@dataclass(frozen=True, slots=True)
class Slots:
    """The slots of one layer's units.

    Attributes:
        turned: [batch, kv_heads, units] int32: the slot that each stored key is rotated for.
        packing: whether those are the units' slots still.
    """

    turned: Tensor
    packing: Packing = Packing.PACKED

    def append(self, first: Tensor, new: int) -> Slots:
        """With `new` units at the end, each row's in the slots from `first` [batch] on."""
        added = first.to(self.turned)[:, None, None] + torch.arange(new, device=self.turned.device)
        return replace(self, turned=torch.cat([self.turned, added.expand(*self.turned.shape[:2], new).int()], dim=-1))

    def gather(self, kept: Tensor, packing: Packing) -> Slots:
        """Only the units at `kept` [batch, kv_heads, kept]."""
        return Slots(self.turned.gather(-1, kept), packing)

    def moves(self, pads: Tensor) -> Tensor:
        """By how much each key has to be moved to be in the slot of its index; padding stays.

        Args:
            pads: units of padding, [batch, 1, 1]; each row's slots begin behind them.
        """
        slots = torch.arange(self.turned.shape[-1], device=self.turned.device) - pads
        return (slots - self.turned).masked_fill(slots < 0, 0)

    def packed(self, pads: Tensor) -> Slots:
        """After the keys have been moved."""
        return Slots(self.turned + self.moves(pads).int())

    def select(self, rows: Tensor) -> Slots:
        """Only these batch rows."""
        return replace(self, turned=self.turned[rows.to(self.turned.device)])

    def without_newest(self, removed: int) -> Slots:
        """Without the newest units."""
        return replace(self, turned=self.turned[..., : self.turned.shape[-1] - removed])

    @classmethod
    def stack(cls, rows: Sequence[Slots]) -> Slots:
        """One batch; rows with fewer units are padded at the front."""
        longest = max(row.turned.shape[-1] for row in rows)
        turned = [pad(row.turned, (longest - row.turned.shape[-1], 0)) for row in rows]
        return cls(torch.cat(turned), max(row.packing for row in rows))


def first_slot(cache: BudgetCache, batch: int, new: int, device: torch.device) -> Tensor:
    """Before a pass of `new` tokens: the slot of the first, [batch, 1]; sliding windows are moved along."""
    reading, layer = cache.reading, cache.layers[cache.budgeted[0]]
    if not cache.stored:
        pads = torch.zeros(batch, dtype=torch.long, device="cpu") if reading.pads is None else reading.pads
        return -pads.to(device)[:, None]
    assert reading.next_slot is not None
    coming = reading.next_slot.to(device)[:, None]
    if layer.slots.packing is Packing.PACKED:
        return coming
    last = min(cache.budget.size + cache.budget.chunk, cache.window)
    if layer.slots.packing is Packing.GAPPED and bool((coming + new <= last).all()):
        return coming
    slots: Tensor = cache.stored - layer.stored_pads()[:, 0].to(device)
    for i in cache.budgeted:
        cache.layers[i].slots = replace(cache.layers[i].slots, packing=Packing.DUE)
    for i in cache.sliding:
        move_sliding(cache.layers[i], reading.rotations[i], (slots - coming)[:, 0])
    return slots
