"""What all layers of one cache share while a prompt is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from locret.cache.budget import Budget
from locret.cache.cuts import Cuts
from locret.cache.plan import Stage, stage_of
from locret.cache.room import Room, room_for
from locret.cache.rotation import Rotation
from locret.models.families import Projections
from locret.models.queries import Queries
from locret.policies.base import Policy


@dataclass(frozen=True, slots=True)
class Step:
    """What one pass is to a layer, and to all others that hold as much.

    Attributes:
        stage: how the cache is cut after it.
        room: for what is stored and what is coming.
        positions: of its tokens in the prompt, [batch, kv_heads, new] int32.
    """

    stage: Stage
    room: Room
    positions: Tensor


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
        latest: the step that was made last (`step`), and what for.
        under_way: a pass has begun and not ended; between passes, it was broken off.
        in_pieces: the pass under way is longer than a piece, and those before its last are being read.
    """

    policy: Policy
    budget: Budget
    rotations: tuple[Rotation, ...] = ()
    prompt_length: int | None = None
    pads: Tensor | None = None
    next_slot: Tensor | None = None
    frozen: Tensor | None = None
    cuts: Cuts = field(init=False, default_factory=Cuts)
    latest: tuple[tuple[Any, ...], Step] | None = field(init=False, default=None)
    under_way: bool = field(init=False, default=False)
    in_pieces: bool = field(init=False, default=False)

    @contextmanager
    def pieces(self) -> Iterator[None]:
        """The passes inside the block are pieces of one."""
        self.in_pieces = True
        try:
            yield
        finally:
            self.in_pieces = False

    def forget(self) -> None:
        """What is known of the prompt, and of a pass that was broken off."""
        self.prompt_length = self.pads = self.next_slot = self.frozen = self.latest = None
        self.under_way, self.cuts = False, Cuts()

    def step(self, seen: int, stored: int, keys: Tensor) -> Step:
        """What a pass is to a layer; made once for layers alike.

        Args:
            seen, stored: tokens before it, and those of them that are stored.
            keys: [batch, kv_heads, new, head_dim], of its tokens.
        """
        shape, device, length = keys.shape[:3], keys.device, self.prompt_length
        made_for = (seen, stored, shape, device, length)
        if self.latest is None or self.latest[0] != made_for:
            end = seen + shape[-1]
            stage = stage_of(end, shape[-1], length, self.budget)
            room = room_for(stored, seen, length, self.budget, self.policy.evicts)
            positions = torch.arange(seen, end, dtype=torch.int32, device=device)
            self.latest = made_for, Step(stage, room, positions.expand(shape))
        return self.latest[1]

    def protected(self, stage: Stage = Stage.MIDDLE) -> int:
        """How many of the newest units a cut keeps unconditionally.

        While the prompt's end is unknown the newest `local` units may turn out to be its tail.
        """
        budget = self.budget
        if stage is Stage.LAST:
            return budget.pin_newest
        local = budget.local if self.prompt_length is None else 0
        return max(budget.stabilizers, budget.pin_newest, local)


@dataclass(frozen=True, slots=True)
class Arriving:
    """What the taps know of the units that the next `update` brings."""

    projections: Projections | None = None
    queries: Queries | None = None
    hidden: Tensor | None = None
