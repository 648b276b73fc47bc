"""Layers with a sliding window beside budgeted ones: transformers' own, kept in step with compact positions."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import DynamicSlidingWindowLayer

from locret.cache.rotation import Rotation


def fork_sliding(layer: DynamicSlidingWindowLayer) -> DynamicSlidingWindowLayer:
    """A layer that goes on from here for itself; `update` makes new tensors, so they can be shared."""
    return copy.copy(layer)


def sliding_bytes(layer: DynamicSlidingWindowLayer) -> int:
    """Bytes of keys and values that are visible; they may be views of one chunk more."""
    return int(layer.keys.nbytes + layer.values.nbytes) if layer.is_initialized else 0


def move_sliding(layer: DynamicSlidingWindowLayer, rotation: Rotation, delta: Tensor) -> None:
    """Move all keys by `delta` positions, [batch].

    With compact positions the next token's position falls whenever units are evicted; what a window has to see is the
    true distance, so the window's keys fall with it.
    """
    if layer.is_initialized and layer.keys.shape[-2] and bool((delta != 0).any()):
        layer.keys = rotation.rotate(
            layer.keys, delta.to(layer.keys.device)[:, None, None].expand(layer.keys.shape[:-1])
        )


def stack_sliding(layer: DynamicSlidingWindowLayer, rows: Sequence[DynamicSlidingWindowLayer]) -> None:
    """Make `layer` one batch of layers that have read one prompt each; the shorter are padded at the front."""
    longest = max(row.keys.shape[-2] for row in rows)
    layer.lazy_initialization(rows[0].keys, rows[0].values)
    layer.cumulative_length = max(row.cumulative_length for row in rows)
    layer.keys, layer.values = (
        torch.cat([pad(tensor, (0, 0, longest - tensor.shape[-2], 0)) for tensor in tensors])
        for tensors in ([row.keys for row in rows], [row.values for row in rows])
    )
