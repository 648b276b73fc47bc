"""H2O (arXiv 2306.14048): heavy hitters, the units that have received most attention, and a recent window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from locret.errors import LocretError
from locret.policies.base import Units, register_policy
from locret.policies.selection import pin_newest
from locret.policies.statistics import received_attention
from locret.values import is_number


@register_policy
@dataclass(frozen=True)
class H2O:
    """The score of unit j is the running sum of attention over all queries i: F(j) = sum_i softmax(q_i K / √d)_j.

    A cut keeps the newest `recent` part of the budget, and of the others those with the highest sums; the paper halves
    the budget between the two. A KV head takes the mean over its query heads, which ranks as their sum would.

    The paper cuts after every token; here a chunk is cut as a whole, so its queries see each other and all that was
    stored. A sum is only over the queries that came while the unit was stored, and never forgets: tokens that assisted
    generation takes back leave what they gave.

    Attributes:
        recent: part of the budget that goes to the newest units, 0 to 1.
    """

    recent: float = 0.5
    name: ClassVar[str] = "h2o"
    evicts: ClassVar[bool] = True
    scores_after_pass: ClassVar[bool] = False
    any_order: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not is_number(self.recent) or not 0 <= self.recent <= 1:
            raise LocretError(f"recent is {self.recent!r}: give the part of the budget for the newest units, 0 to 1")

    def check(self, model: nn.Module) -> None:
        """Works with every model."""

    def score(self, units: Units) -> Tensor:
        """Add what the new queries give to what was received before.

        Raises:
            LocretError: the model's hooks are off.
        """
        before = units.append(torch.zeros_like(units.new_positions, dtype=torch.float32))
        return before + received_attention(units)

    def rank(self, scores: Tensor, positions: Tensor, size: int) -> Tensor:
        """The sums, with the recent window pinned."""
        return pin_newest(scores, int(self.recent * size), positions)
