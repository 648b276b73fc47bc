"""StreamingLLM (arXiv 2309.17453): attention sinks and a sliding window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from locret.policies.base import Units, register_policy
from locret.values import check_whole


@register_policy
@dataclass(frozen=True)
class StreamingLLM:
    """Keep the first `sinks` tokens and the newest of the others: the score of a unit is its position.

    Attributes:
        sinks: how many initial tokens are pinned (4 in the paper).
    """

    sinks: int = 4
    name: ClassVar[str] = "streaming_llm"
    evicts: ClassVar[bool] = True
    scores_after_pass: ClassVar[bool] = False
    any_order: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_whole("sinks", self.sinks, 0)

    def check(self, model: nn.Module) -> None:
        """Works with every model."""

    def score(self, units: Units) -> Tensor:
        """The position; infinite for the sinks."""
        positions = units.new_positions.float()  # exact below 2^24 tokens
        return units.append(positions.masked_fill(positions < self.sinks, torch.inf))

    def rank(self, scores: Tensor, positions: Tensor, size: int) -> Tensor:
        """By score alone."""
        return scores
