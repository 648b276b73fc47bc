"""SnapKV (arXiv 2404.14469): an observation window at the end says what matters before it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d

from locret.errors import LocretError
from locret.policies.base import Units, register_policy
from locret.policies.selection import pin_newest
from locret.policies.statistics import asked_attention, window_attention
from locret.values import check_whole


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

    With a question that stands before the document the window need not be guessed: every chunk is asked by the
    question's queries as they would be behind it (`Units.asked`), and the chunk's tail is nothing special. The
    question's own units are pinned, so they take up a part of the budget, and give nothing to their neighbours. In a
    padded batch, and in the passes before the question's end, the window is the chunk's tail all the same.

    Attributes:
        window: w, the newest queries that are asked, and the newest units that are pinned; a shorter pass asks all of
            its queries.
        kernel: neighbours that are averaged over, odd.
        question: how many tokens at the start of the prompt belong to the question, its very first token included; 0
            for no question.
    """

    window: int = 32
    kernel: int = 5
    question: int = 0
    name: ClassVar[str] = "snapkv"
    evicts: ClassVar[bool] = True
    scores_after_pass: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name, least in (("window", 1), ("kernel", 1), ("question", 0)):
            check_whole(name, getattr(self, name), least)
        if self.kernel % 2 == 0:
            raise LocretError(f"kernel is {self.kernel}: give an odd number of neighbours to average over")

    def asked(self, tokens: int) -> SnapKV:
        """For another question: see `QueryAware`."""
        return replace(self, question=tokens)

    @property
    def asks_again(self) -> int:
        """The question's queries are wanted in every pass."""
        return self.question

    def check(self, model: nn.Module) -> None:
        """Works with every model."""

    def score(self, units: Units) -> Tensor:
        """Ask the window about everything before it, or the question about everything.

        Raises:
            LocretError: the model's hooks are off.
        """
        new = units.new_positions.shape[-1]
        pinned = units.positions < self.question
        if new == 1:
            scores = units.append(torch.ones_like(units.new_positions, dtype=torch.float32))
        elif units.asked is not None:
            scores = self._pool(asked_attention(units).masked_fill(pinned, 0.0))
        else:
            window = min(self.window, new)
            attention = window_attention(units, window)  # [batch, kv_heads, stored + new]
            before, observing = attention[..., :-window], attention[..., -window:]
            scores = torch.cat([self._pool(before), torch.ones_like(observing)], dim=-1)
        return scores.masked_fill(pinned, torch.inf)

    def rank(self, scores: Tensor, positions: Tensor, size: int) -> Tensor:
        """The scores, with the window pinned unless the question is known."""
        return scores if self.question else pin_newest(scores, min(self.window, size))

    def _pool(self, attention: Tensor) -> Tensor:
        """Averages over neighbours; the shape [batch, kv_heads, units] stays."""
        if not attention.shape[-1]:
            return attention
        return avg_pool1d(attention, self.kernel, stride=1, padding=self.kernel // 2)
