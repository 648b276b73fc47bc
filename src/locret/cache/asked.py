"""The queries of a question that stands before the document, asked again behind what has been read.

When a document is read its question's queries are gone from the pass. They are made once, kept (they are as many as the
question has tokens), and moved by the rotary difference to where they would be if the question came next.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from locret.models.queries import Queries
from locret.policies.base import AsksAgain, Policy

if TYPE_CHECKING:
    from locret.cache.layer import BudgetLayer


@dataclass(frozen=True, slots=True)
class Asked:
    """The queries of a prompt's first tokens in one layer. A value: a fork shares it.

    Attributes:
        wanted: how many tokens a policy wants to ask again; 0 for most, and then nothing is kept.
        queries: [batch, q_heads, tokens, head_dim], fp32: those of them that were read; None before the first.
        places: [tokens], the rotary position that each is rotated for.
    """

    wanted: int = 0
    queries: Tensor | None = None
    places: Tensor | None = None

    @classmethod
    def of(cls, policy: Policy) -> Asked:
        """At the beginning of a prompt."""
        return cls(policy.asks_again if isinstance(policy, AsksAgain) else 0)

    def after(self, layer: BudgetLayer, queries: Queries | None) -> tuple[Asked, Tensor | None]:
        """What is kept after a pass, and the question's queries as if it stood right behind the newest unit.

        Args:
            layer: has appended the pass' units, and not cut yet.
            queries: gives the pass' queries; None without hooks.

        Returns:
            Queries [batch, q_heads, wanted, head_dim]; None where they are not wanted or not all read yet, and in a
            padded batch, where a question would begin elsewhere in every row.
        """
        if not self.wanted:
            return self, None
        new, slots = layer.new, layer.slots
        read = torch.arange(layer.seen - new, layer.seen, device="cpu")
        places = read if slots is None else slots.turned[0, 0, -new:]  # without padding the same in all rows and heads
        known = self._with(layer.seen - new, places, queries)
        if layer.reading.pads is not None or known.queries is None or known.places is None:
            return known, None
        if known.queries.shape[2] < known.wanted:
            return known, None
        behind = places[-1].to(known.places) + 1 + torch.arange(known.wanted, device=known.places.device)
        delta = (behind - known.places)[None, None]  # [1, 1, wanted]
        return known, layer.reading.rotations[layer.index].rotate(known.queries, delta)

    def _with(self, seen: int, places: Tensor, queries: Queries | None) -> Asked:
        """With those of a pass of which `seen` tokens had been read before."""
        missing = self.wanted - seen
        if missing <= 0 or queries is None:
            return self
        own = queries(len(places))[:, :, :missing]
        at = places[:missing].to(own.device)
        if seen == 0 or self.queries is None or self.places is None:
            return replace(self, queries=own.clone(), places=at)
        # Tokens that were taken back since are read again.
        known = self.queries[:, :, :seen], self.places[:seen]
        return replace(self, queries=torch.cat([known[0], own], dim=2), places=torch.cat([known[1], at]))

    def select(self, rows: Tensor) -> Asked:
        """Only these batch rows, which may repeat."""
        return self if self.queries is None else replace(self, queries=self.queries[rows.to(self.queries.device)])
