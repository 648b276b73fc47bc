"""Locret (arXiv 2410.01805): trained retaining heads say what to keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from locret.errors import LocretError
from locret.models.heads import RetainingHeads
from locret.policies.base import Units, register_policy


@register_policy
@dataclass(frozen=True)
class Locret:
    """The causal importance score: fc2(act(fc1([q; k; v]))) of the unit's own projections, never updated.

    Attributes:
        heads: the trained heads of the model that is used.
    """

    heads: RetainingHeads
    name: ClassVar[str] = "locret"
    evicts: ClassVar[bool] = True
    scores_after_pass: ClassVar[bool] = False
    any_order: ClassVar[bool] = True

    def check(self, model: nn.Module) -> None:
        """Refuse heads of another model."""
        if not isinstance(self.heads, RetainingHeads):
            raise LocretError(
                f"heads is {self.heads!r}: give RetainingHeads.from_pretrained(...), the heads themselves"
            )
        self.heads.check_fits(model)

    def beside(self, model: nn.Module) -> Locret:
        """With each head where its layer is."""
        return Locret(self.heads.beside(model))

    def score(self, units: Units) -> Tensor:
        """Score the new units; the stored ones keep theirs.

        Raises:
            LocretError: the model's hooks are off, so there are no projections to score.
        """
        if units.projections is None:
            raise LocretError("the model's hooks are off, so there is nothing to score: call locret.attach(model)")
        return units.append(self.heads.score(units.layer, units.projections, units.hidden))

    def rank(self, scores: Tensor, positions: Tensor, size: int) -> Tensor:
        """By score alone."""
        return scores
