"""Full attention: nothing is evicted; the yardstick of every other policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from locret.policies.base import Units, register_policy


@register_policy
@dataclass(frozen=True)
class Full:
    """Keep every unit. Memory grows with the prompt."""

    name: ClassVar[str] = "full"
    evicts: ClassVar[bool] = False
    scores_after_pass: ClassVar[bool] = False
    any_order: ClassVar[bool] = True

    def check(self, model: nn.Module) -> None:
        """Works with every model."""

    def score(self, units: Units) -> Tensor:
        """All alike, as nothing is chosen."""
        return units.append(torch.zeros_like(units.new_positions, dtype=torch.float32))

    def rank(self, scores: Tensor, positions: Tensor, size: int) -> Tensor:
        """By score alone."""
        return scores
