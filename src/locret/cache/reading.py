"""What all layers of one cache share while a prompt is read."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from locret.cache.budget import Budget
from locret.cache.cuts import Cuts
from locret.cache.rotation import Rotation
from locret.models.families import Projections
from locret.models.queries import Queries
from locret.policies.base import Policy


@dataclass
class Reading:
    """What all layers of one cache share while a prompt is read.

    Attributes:
        policy, budget: how units are scored, and how many stay.
        rotations: how keys of each layer are moved; empty until the first pass.
        prompt_length: prompt tokens in all, the ones before this turn included; None where unknown.
        pads: left padding of each batch row seen so far, [batch]; None without padding.
        next_slot: with compact positions the slot that the next token has while nothing is moved, [batch].
        frozen: LongRoPE's inverse frequencies for this run; None for other models.
        cuts: the layers that wait to be cut.
        latest: the positions that were made last (`positions`), and what for.
    """

    policy: Policy
    budget: Budget
    rotations: tuple[Rotation, ...] = ()
    prompt_length: int | None = None
    pads: Tensor | None = None
    next_slot: Tensor | None = None
    frozen: Tensor | None = None
    cuts: Cuts = field(init=False, default_factory=Cuts)
    latest: tuple[tuple[int, int, torch.device], Tensor] | None = field(init=False, default=None)

    def positions(self, start: int, end: int, device: torch.device) -> Tensor:
        """The prompt's positions from `start` to `end`, [tokens] int32; made once for all layers of a pass."""
        if self.latest is None or self.latest[0] != (start, end, device):
            made = torch.arange(start, end, dtype=torch.int32, device=device)
            self.latest = (start, end, device), made
        return self.latest[1]

    def protected(self) -> int:
        """How many of the newest units a middle chunk keeps unconditionally.

        While the prompt's end is unknown the newest `local` units may turn out to be its tail.
        """
        budget = self.budget
        return budget.stabilizers if self.prompt_length is not None else max(budget.stabilizers, budget.local)


@dataclass(frozen=True, slots=True)
class Arriving:
    """What the taps know of the units that the next `update` brings."""

    projections: Projections | None = None
    queries: Queries | None = None
    hidden: Tensor | None = None
