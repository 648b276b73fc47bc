"""The cache of the limit: as many units as a budget keeps, the newest ones, in buffers that are never made anew.

Nothing is scored, sorted or gathered, and every new unit is written twice at most, so no eviction in the same memory
can be cheaper. What it keeps is a sliding window: good for time, not for answers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicSlidingWindowLayer

from locret.cache.budget import Budget
from locret.cache.sliding import sliding_bytes
from locret.models.families import budgeted_layers, text_config


class RingLayer(CacheLayerMixin):
    """The newest units of one layer.

    The buffer has `size` places that are overwritten in turn, and room behind them for the units of a pass, which
    attention wants last. The order of the others does not matter to it: positions are in the keys.

    Args:
        size: units to keep.
        room: units of the largest pass, or of the tail and the answer, which stay.
    """

    is_sliding = False
    is_croppable = False
    supports_early_init = False

    def __init__(self, size: int, room: int) -> None:
        super().__init__()
        self.size, self.room = size, room
        self.stored = self.fresh = self.seen = self.oldest = 0
        self.keeps = False
        self.is_initialized = False

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make the buffers, in the shapes of the first units."""
        batch, heads, _, width = key_states.shape
        self.keys = key_states.new_empty(batch, heads, self.size + self.room, width)
        self.values = torch.empty_like(self.keys)
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Put the units of the last pass in the places of the oldest, and the new ones behind all that are stored."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self._settle()
        new = key_states.shape[-2]
        end = self.stored + new
        self.keys[..., self.stored : end, :] = key_states
        self.values[..., self.stored : end, :] = value_states
        self.fresh, self.seen = new, self.seen + new
        return self.keys[..., :end, :], self.values[..., :end, :]

    def _settle(self) -> None:
        """The units of the last pass become stored ones; attention is over, so the oldest may go."""
        if self.keeps:
            self.stored, self.fresh = self.stored + self.fresh, 0
            return
        free = min(self.size - self.stored, self.fresh)  # they are in their places already
        over = min(self.fresh - free, self.size)
        start = self.stored + self.fresh - over
        self.stored += free
        while over > 0:
            count = min(over, self.size - self.oldest)
            for buffer in (self.keys, self.values):
                buffer[..., self.oldest : self.oldest + count, :] = buffer[..., start : start + count, :]
            start, over = start + count, over - count
            self.oldest = (self.oldest + count) % self.size
        self.fresh = 0

    def keep_from_here(self) -> None:
        """The body of the prompt is read: from now on nothing is overwritten."""
        self._settle()
        self.keeps = True

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Attention sees what is stored and the new units."""
        settled = self.stored + self.fresh if self.keeps else min(self.stored + self.fresh, self.size)
        return settled + query_length, 0

    def get_seq_length(self) -> int:
        """Tokens seen, so that positions go on from there."""
        return self.seen

    def get_max_length(self) -> int:
        """No bound on the tokens that can be read."""
        return -1

    @property
    def nbytes(self) -> int:
        """Bytes of the units that are held."""
        return int(2 * self.keys[..., : self.get_mask_sizes(0)[0], :].nbytes)


class RingCache(Cache):
    """A `RingLayer` for every layer that has no sliding window of its own.

    Args:
        config: of the model.
        budget: its size and chunk.
        tail: tokens of the local tail and of the answer.
    """

    def __init__(self, config: Any, budget: Budget, tail: int) -> None:
        text, room = text_config(config), max(budget.chunk, tail)
        self.rings = {i: RingLayer(budget.size, room) for i in budgeted_layers(config)}
        super().__init__(
            layers=[
                self.rings.get(i) or DynamicSlidingWindowLayer(sliding_window=text.sliding_window)
                for i in range(text.num_hidden_layers)
            ]
        )

    def keep_from_here(self) -> None:
        """See `RingLayer.keep_from_here`."""
        for ring in self.rings.values():
            ring.keep_from_here()

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Where the new queries stand among the stored units."""
        ring = self.rings.get(layer_idx)
        return int(self.layers[layer_idx].get_seq_length() if ring is None else ring.get_mask_sizes(0)[0])

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values that are held; the buffers have room for more."""
        windows = (layer for i, layer in enumerate(self.layers) if i not in self.rings)
        return sum(ring.nbytes for ring in self.rings.values()) + sum(map(sliding_bytes, windows))
