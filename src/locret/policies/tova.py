"""TOVA (arXiv 2401.06104): keep the tokens that the last query looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from locret.policies.base import Units, register_policy
from locret.policies.statistics import received_attention


@register_policy
@dataclass(frozen=True)
class TOVA:
    """The score of unit j is the last query's attention, softmax(q_t K / √d)_j, averaged over all heads of the layer.

    All KV heads get one and the same score, so they start and stay with the same tokens: a layer keeps one set. Nothing
    is pinned, neither first nor newest tokens, and every pass scores all units anew. The paper drops one token after
    each query; here the last query of a chunk decides for the chunk.
    """

    name: ClassVar[str] = "tova"
    evicts: ClassVar[bool] = True
    scores_after_pass: ClassVar[bool] = False
    any_order: ClassVar[bool] = True

    def check(self, model: nn.Module) -> None:
        """Works with every model."""

    def score(self, units: Units) -> Tensor:
        """The last query's attention; what was said before is forgotten.

        Raises:
            LocretError: the model's hooks are off.
        """
        received = received_attention(units, last=1)  # groups are of one size: the mean of their means is that of all
        return received.mean(dim=1, keepdim=True).expand_as(received)

    def rank(self, scores: Tensor, positions: Tensor, size: int) -> Tensor:
        """By score alone."""
        return scores
