"""Keeping units in a storage: in the order of the prompt, or with less moved where nobody needs the order."""

from __future__ import annotations

import torch
from torch import Tensor

from locret.cache.reading import Reading
from locret.cache.room import Room
from locret.cache.storage import Storage, in_place


def fills_gaps(storage: Storage, reading: Reading) -> bool:
    """Whether an eviction leaves units where they are and fills the gaps, so that the prompt's order is lost.

    Not under a policy that goes by indices, nor with padding, which is at the front of all heads alike. Not with
    compact positions either: unit i is in slot i, and as keys are rotated in every pass then, moving them together
    first is the lesser part (docs/log.md).
    """
    free = reading.pads is None and reading.budget.positions == "true"
    return free and getattr(reading.policy, "any_order", False) and in_place(storage) is not None


def keep_first(storage: Storage, count: int, positions: Tensor) -> Storage:
    """The first `count` units; `positions` is [batch, kv_heads, units]."""
    roomy = in_place(storage)
    if roomy is not None:
        return roomy.first(count)
    return storage.gather(torch.arange(count, device=positions.device).expand(*positions.shape[:2], -1))


def with_room(storage: Storage, room: Room) -> Storage:
    """The storage, told how much is coming."""
    roomy = in_place(storage)
    return storage if roomy is None else roomy.with_room(room)
