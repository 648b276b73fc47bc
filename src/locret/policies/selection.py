"""Selection: which units of every KV head stay, given their scores. Nothing is sorted, and CUDA is not waited for.

On the CPU numpy does the same in half of the time: `locret.policies.selection_host`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from locret.models.placement import has_values
from locret.policies import selection_host

_PINNED = torch.iinfo(torch.int64).max


def select(scores: Tensor, size: int, protect: int = 0) -> Tensor:
    """Indices of the `size` units to keep in every KV head, of units in the order of the prompt.

    See `keep_mask`.

    Returns:
        [batch, kv_heads, size], ascending.
    """
    return ascending(keep_mask(scores, size, protect), size)


def keep_mask(scores: Tensor, size: int, protect: int = 0, positions: Tensor | None = None, recent: int = 0) -> Tensor:
    """Which `size` units to keep in every KV head.

    The newest `protect` units are kept whatever their scores; the other places go to the highest scores. Among scores
    that are equal bit for bit the older unit wins, so the order is fixed. (Layer 0 gives equal tokens equal scores but
    for rounding, which depends on where in a pass they stand: of those any may win.)

    Args:
        scores: [batch, kv_heads, units], no NaN.
        size: how many to keep, 0 < size <= units.
        protect: how many of the newest are kept unconditionally, at most `size`.
        positions: [batch, kv_heads, units], whole numbers from -1 on, no two of a head alike: where each unit is in
            the prompt; None for units in its order.
        recent: so many units at the end are known to be newer than the others, and in order.

    Returns:
        [batch, kv_heads, units], True `size` times in every head.
    """
    units = scores.shape[-1]
    if units == size:
        return torch.ones_like(scores, dtype=torch.bool)
    newest = min(protect, size)
    if has_values(scores):
        return selection_host.keep_mask(scores, size, newest, positions, recent)
    return keep_mask_queued(scores, size, newest, positions, recent)


def keep_mask_queued(scores: Tensor, size: int, newest: int, positions: Tensor | None, recent: int = 0) -> Tensor:
    """`keep_mask` for size < units and newest <= size, in operations that no value has to be waited for."""
    units = scores.shape[-1]
    ages = torch.arange(units, device=scores.device).expand_as(scores) if positions is None else positions
    # Scores as whole numbers of the same order, and behind them the age: no two are equal, so no tie is left.
    bits = (scores.float() + 0.0).view(torch.int32)  # -0.0 + 0.0 is 0.0
    order = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
    order = (order << 32) + (0x7FFFFFFF - ages)
    if positions is None or newest <= recent:
        order[..., units - newest :] = _PINNED
    else:
        order = order.masked_fill(positions >= _newest(positions, newest), _PINNED)
    # The losers are mostly fewer than those who stay.
    lost = order.topk(units - size, dim=-1, largest=False, sorted=False).values.amax(dim=-1, keepdim=True)
    return order > lost


def ascending(keep: Tensor, size: int) -> Tensor:
    """The `size` units that a mask [batch, kv_heads, units] keeps: indices [batch, kv_heads, size], ascending."""
    return selection_host.ascending(keep, size) if has_values(keep) else ascending_queued(keep, size)


def select_slots(keep: Tensor, size: int) -> Tensor:
    """The same units in slot order: those below `size` at their own index, the others, ascending, in the gaps.

    Args:
        keep: [batch, kv_heads, units], True `size` times in every head.
        size: how many are kept.

    Returns:
        [batch, kv_heads, size]: which unit is in each slot.
    """
    units, device = keep.shape[-1], keep.device
    beyond = min(units - size, size)  # at most so many gaps
    stays, comes = keep[..., :size], keep[..., size:]
    gaps = ascending_queued(~stays, beyond)  # where there are fewer gaps, the rest is `size`, which is no slot
    nth = (comes.cumsum(dim=-1) - 1).clamp(min=0, max=max(beyond - 1, 0))
    slots = torch.where(comes, gaps.gather(-1, nth), size) if beyond else torch.full_like(nth, size)
    filled = torch.arange(size + 1, device=device).expand(*keep.shape[:-1], size + 1).clone()
    filled.scatter_(-1, slots, torch.arange(size, units, device=device).expand_as(slots))
    return filled[..., :size]


def pin_newest(scores: Tensor, count: int, positions: Tensor | None = None) -> Tensor:
    """A copy of the scores [batch, kv_heads, units] with +inf for the newest `count` units.

    Args:
        scores: of the units.
        count: how many to pin.
        positions: [batch, kv_heads, units], where the units are in the prompt; None for units in its order.
    """
    if positions is None:
        pinned = scores.clone()
        pinned[..., max(scores.shape[-1] - count, 0) :] = torch.inf
        return pinned
    if count <= 0:
        return scores.clone()
    return scores.masked_fill(positions >= _newest(positions, min(count, scores.shape[-1])), torch.inf)


def _newest(positions: Tensor, count: int) -> Tensor:
    """The position of the oldest of the newest `count` units: [batch, kv_heads, 1]."""
    return positions.topk(count, dim=-1, sorted=False).values.amin(dim=-1, keepdim=True)


def ascending_queued(mask: Tensor, most: int) -> Tensor:
    """Where a mask [..., n] is True, ascending: [..., most]; filled up with n. `nonzero` would make CUDA wait."""
    n = mask.shape[-1]
    nth = torch.where(mask, mask.cumsum(dim=-1) - 1, most).clamp(max=most)
    found = torch.full((*mask.shape[:-1], most + 1), n, device=mask.device)
    return found.scatter_(-1, nth, torch.arange(n, device=mask.device).expand_as(nth))[..., :most]
