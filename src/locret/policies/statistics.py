"""Attention that stored and new units receive from the new queries: what H2O, TOVA and SnapKV score by.

Attention kernels give no weights, so the logits are computed once more, in fp32 and for a few queries at a time: memory
grows with the units that are stored, not with their number times the chunk's.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from locret.errors import LocretError
from locret.policies.base import Units

QUERIES_AT_ONCE = 128  # so many rows of every head's attention matrix are in memory at a time


@torch.no_grad()
def received_attention(units: Units, last: int | None = None, at_once: int = QUERIES_AT_ONCE) -> Tensor:
    """Softmax attention that each unit receives, summed over queries and averaged over the query heads of its group.

    Args:
        units: the units of one layer.
        last: how many of the newest queries are summed over; None for all.
        at_once: queries to compute together; it changes memory and time only.

    Returns:
        [batch, kv_heads, stored + new], fp32. Padding neither receives nor gives.

    Raises:
        LocretError: the model's hooks are off.
    """
    received = torch.zeros_like(units.positions, dtype=torch.float32)
    for logits, asking in masked_logits(units, last, at_once):
        own = (asking >= 0).float()[:, None, None, None]  # [batch, 1, 1, 1, block]
        received += (own @ logits.softmax(dim=-1))[..., 0, :].mean(dim=2)
    return received


def window_attention(units: Units, last: int) -> Tensor:
    """`received_attention` of the newest `last` queries, averaged over those of them that are not padding.

    Returns:
        [batch, kv_heads, stored + new], fp32, between 0 and 1.
    """
    own = (units.new_positions[:, 0, -last:] >= 0).sum(dim=-1).clamp(min=1)  # [batch]
    return received_attention(units, last) / own[:, None, None]


@torch.no_grad()
def asked_attention(units: Units, at_once: int = QUERIES_AT_ONCE) -> Tensor:
    """Softmax attention that each unit receives from `Units.asked`, averaged over these queries and the group's heads.

    They stand behind all units, so all are seen. Nothing is padding.

    Returns:
        [batch, kv_heads, stored + new], fp32, between 0 and 1.
    """
    assert units.asked is not None, "there is no question to ask again"
    keys = units.keys.float()
    queries = units.asked.to(keys.device).unflatten(1, (keys.shape[1], -1))  # [batch, kv_heads, group, question, dim]
    received = torch.zeros_like(units.positions, dtype=torch.float32)
    for query in queries.split(at_once, dim=3):
        received += (query.flatten(2, 3) @ keys.mT).softmax(dim=-1).sum(dim=2)
    return received / (queries.shape[2] * queries.shape[3])


def masked_logits(
    units: Units, last: int | None = None, at_once: int = QUERIES_AT_ONCE
) -> Iterator[tuple[Tensor, Tensor]]:
    """Attention's logits of the newest queries, block by block.

    A query sees every stored unit, and of the new ones those up to itself; padding is seen by none. What is hidden has
    the lowest finite number, which softmax makes exactly 0 beside any other, without NaN where all is hidden.

    Args:
        units: the units of one layer.
        last: how many of the newest queries; None for all.
        at_once: queries of a block.

    Yields:
        Logits [batch, kv_heads, group, block, stored + new], fp32, and the block's positions [batch, block].

    Raises:
        LocretError: the model's hooks are off.
    """
    if units.queries is None:
        raise LocretError("the model's hooks are off, so there are no queries to score by: call locret.attach(model)")
    asking = units.new_positions[:, 0]  # [batch, new]; new tokens have the same position in all heads
    asking = asking if last is None else asking[:, -last:]
    keys, positions = units.keys.float(), units.positions[:, :, None]
    queries = units.queries(asking.shape[-1]).to(keys.device)
    queries = queries.unflatten(1, (keys.shape[1], -1))  # [batch, kv_heads, group, queries, head_dim]
    for query, at in zip(queries.split(at_once, dim=3), asking.split(at_once, dim=1), strict=True):
        logits = (query.flatten(2, 3) @ keys.mT).unflatten(2, query.shape[2:4])
        hidden = (positions > at[:, None, :, None]) | (positions < 0)  # [batch, kv_heads, block, stored + new]
        yield logits.masked_fill_(hidden[:, :, None], torch.finfo(logits.dtype).min), at
