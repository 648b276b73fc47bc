"""SirLLM (arXiv 2405.12528): keep the tokens that the model did not expect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from locret.errors import LocretError
from locret.policies.base import Units, register_policy
from locret.policies.selection import pin_newest
from locret.values import check_whole


@register_policy
@dataclass(frozen=True)
class SirLLM:
    """The score of a token is its entropy, -log p(x_t | x_<t): one score, and so one token set, for all heads.

    A cut keeps the first `start` tokens, the newest `recent`, and of the others those of highest entropy. The first
    token of a pass has no prediction within it and gets the pass' highest entropy; a pass of one token gets the highest
    that is stored. Scores never change (the paper's decay between turns of a conversation is 1 within a document).

    The paper's tokens take the positions of their slots: `Budget(positions="compact")`. Locret's paper compares with
    4 + 16384 + 1000 tokens (Llama) and 4 + 6000 + 1000 (Phi-3); here the budget is for all three together.

    Attributes:
        start: how many initial tokens are pinned.
        recent: how many of the newest tokens are pinned, but never more than half of the budget.
    """

    start: int = 4
    recent: int = 1000
    name: ClassVar[str] = "sirllm"
    evicts: ClassVar[bool] = True
    scores_after_pass: ClassVar[bool] = True
    any_order: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("start", "recent"):
            check_whole(name, getattr(self, name), 0)

    def check(self, model: nn.Module) -> None:
        """Works with every model."""

    def score(self, units: Units) -> Tensor:
        """The entropy of the new tokens, alike in every head; the stored ones keep theirs.

        Raises:
            LocretError: the pass is not over, so there are no predictions.
        """
        if units.surprise is None:
            raise LocretError("the model's hooks are off, so there are no predictions: call locret.attach(model)")
        own = units.new_positions[:, 0] >= 0  # [batch, new]; padding is before each row's own first token
        first = own & (own.cumsum(dim=-1) == 1)
        predicted = units.surprise.to(own.device).masked_fill(~own | first, 0.0)
        known = torch.cat([units.scores[:, 0], predicted], dim=-1)  # stored padding has -inf
        highest = torch.where(own.sum(dim=-1) > 1, predicted.amax(dim=-1), known.amax(dim=-1))  # [batch]
        entropy = torch.where(first, highest[:, None], predicted)  # [batch, new]
        return units.append(entropy[:, None].expand_as(units.new_positions))

    def rank(self, scores: Tensor, positions: Tensor, size: int) -> Tensor:
        """The entropies, with the first and the newest tokens pinned."""
        pinned = pin_newest(scores, min(self.recent, size // 2), positions)
        return pinned.masked_fill((positions >= 0) & (positions < self.start), torch.inf)
