"""Selection: which units of every KV head stay, given their scores."""

from __future__ import annotations

import torch
from torch import Tensor


def select(scores: Tensor, size: int, protect: int = 0) -> Tensor:
    """Indices of the `size` units to keep in every KV head.

    The newest `protect` units are kept whatever their scores; the other places go to the highest scores. Among equal
    scores the older unit wins: layer 0 gives equal tokens equal scores, so the order must be fixed.

    Args:
        scores: [batch, kv_heads, units], no NaN.
        size: how many to keep, 0 < size <= units.
        protect: how many of the newest are kept unconditionally, at most `size`.

    Returns:
        [batch, kv_heads, size], ascending.
    """
    units = scores.shape[-1]
    if protect >= size:
        newest = torch.arange(units - size, units, device=scores.device)
        return newest.expand(*scores.shape[:-1], size)
    candidates = scores[..., : units - protect]
    places = size - protect
    threshold = candidates.topk(places, dim=-1, sorted=False).values.amin(dim=-1, keepdim=True)
    above = candidates > threshold
    tied = candidates == threshold
    free = places - above.sum(dim=-1, keepdim=True)
    keep = above | (tied & (tied.cumsum(dim=-1) <= free))  # exactly `places` a head
    kept = keep.nonzero()[:, -1].view(*scores.shape[:-1], places)  # row-major, so ascending in every head
    newest = torch.arange(units - protect, units, device=scores.device).expand(*scores.shape[:-1], protect)
    return torch.cat([kept, newest], dim=-1)


def pin_newest(scores: Tensor, count: int) -> Tensor:
    """A copy of the scores [batch, kv_heads, units] with +inf for the newest `count` units."""
    pinned = scores.clone()
    pinned[..., max(scores.shape[-1] - count, 0) :] = torch.inf
    return pinned
