"""SnapKV (arXiv 2404.14469): an observation window at the end says what matters before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d

from locret.errors import LocretError
from locret.policies.base import Units, register_policy
from locret.policies.selection import pin_newest
from locret.policies.statistics import window_attention


@register_policy
@dataclass(frozen=True)
class SnapKV:
    """The score of unit j before the window is pool(1/w · sum over the last w queries i of softmax(q_i K / √d)_j).

    Attention is averaged over the window and over the query heads of a KV head, then over `kernel` neighbours (zeros
    beyond the ends, as published). A cut keeps the window and the highest scores before it. The paper compresses once,
    after the whole prompt, with w = 32 or 64 and kernels from 5 on; here every chunk is a prompt of its own: the window
    is the chunk's tail, and neighbours are neighbours among the units that are still stored.

    A pass of several tokens scores all units anew. A single token says too little: stored units keep their scores. New
    units that no later query has seen yet (the window, a single token) have 1, the most attention there can be.

    Attributes:
        window: w, the newest queries that are asked, and the newest units that are pinned; a shorter pass asks all of
            its queries.
        kernel: neighbours that are averaged over, odd.
    """

    window: int = 32
    kernel: int = 5
    name: ClassVar[str] = "snapkv"
    evicts: ClassVar[bool] = True
    scores_after_pass: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.window < 1:
            raise LocretError(f"window is {self.window}: give at least 1 query to observe")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise LocretError(f"kernel is {self.kernel}: give an odd number of neighbours to average over")

    def check(self, model: nn.Module) -> None:
        """Works with every model."""

    def score(self, units: Units) -> Tensor:
        """Ask the window about everything before it.

        Raises:
            LocretError: the model's hooks are off.
        """
        new = units.new_positions.shape[-1]
        if new == 1:
            return units.append(torch.ones_like(units.new_positions, dtype=torch.float32))
        window = min(self.window, new)
        attention = window_attention(units, window)  # [batch, kv_heads, stored + new]
        before, observing = attention[..., :-window], attention[..., -window:]
        pooled = avg_pool1d(before, self.kernel, stride=1, padding=self.kernel // 2) if before.shape[-1] else before
        return torch.cat([pooled, torch.ones_like(observing)], dim=-1)

    def rank(self, scores: Tensor, positions: Tensor, size: int) -> Tensor:
        """The scores, with the window pinned."""
        return pin_newest(scores, min(self.window, size))
