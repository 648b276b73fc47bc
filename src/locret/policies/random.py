"""Random eviction: the floor that every policy has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from locret.policies.base import Units, register_policy

SEED_BITS = 12
SEED_MASK, WORD = (1 << SEED_BITS) - 1, (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15  # odd, so no two numbers of 64 bits have one product


@register_policy
@dataclass(frozen=True)
class Random:
    """Uniform scores, a pure function of (seed, layer, KV head, position): chunking does not change them.

    Attributes:
        seed: another seed keeps other units.
    """

    seed: int = 0
    name: ClassVar[str] = "random"
    evicts: ClassVar[bool] = True
    scores_after_pass: ClassVar[bool] = False
    any_order: ClassVar[bool] = True

    def check(self, model: nn.Module) -> None:
        """Works with every model."""

    def score(self, units: Units) -> Tensor:
        """Hash every new unit to a number in [0, 1)."""
        positions = units.new_positions.long()  # [batch, kv_heads, new]
        heads = torch.arange(positions.shape[1], device=positions.device)[:, None]
        return units.append(_uniform(positions + (heads << 32) + (units.layer << 44) + _folded(self.seed)))

    def rank(self, scores: Tensor, positions: Tensor, size: int) -> Tensor:
        """By score alone."""
        return scores


def _folded(seed: int) -> int:
    """A seed of any size as an int64 that leaves the other parts of a key alone, as far as 12 bits go.

    Its lowest 12 bits are the key's highest; what it has beyond them is mixed in by multiplying, 0 where that is 0.
    """
    low, high = (seed & SEED_MASK) << 52, seed >> SEED_BITS
    return ((low + high * GOLDEN + (1 << 63)) & WORD) - (1 << 63)


def _uniform(keys: Tensor) -> Tensor:
    """Mix 64-bit keys (the finaliser of SplitMix64, in wrapping arithmetic) and read the top 24 bits as a fraction."""
    mixed = keys * -7046029254386353131  # GOLDEN as an int64
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685), (31, 1)):
        logical = (mixed >> shift) & ((1 << (64 - shift)) - 1)  # >> copies the sign bit
        mixed = (mixed ^ logical) * factor
    return ((mixed >> 40) & 0xFFFFFF).float() / (1 << 24)
