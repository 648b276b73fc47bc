"""Compact positions in low precision: however often units are moved together, their keys stay what they should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

import locret
from locret.cache.slots import Packing, first_slot
from locret.policies.base import Units
from tests.conftest import tiny_llama

HEADS, DIM = 2, 64
ONE_ROUNDING = {torch.bfloat16: 2e-3, torch.float16: 3e-4}  # relative error of a vector, in the mean


@dataclass(frozen=True)
class Shuffled:
    """Scores without any order, each head its own: some units stay long, and lose neighbours one by one."""

    name: ClassVar[str] = "shuffled"
    evicts: ClassVar[bool] = True
    scores_after_pass: ClassVar[bool] = False

    def check(self, model: torch.nn.Module) -> None:
        pass

    def rank(self, scores: torch.Tensor, positions: torch.Tensor, size: int) -> torch.Tensor:
        return scores

    def score(self, units: Units) -> torch.Tensor:
        heads = torch.arange(HEADS)[None, :, None]
        return units.append(((units.new_positions + 1) * (7919 + 1292 * heads) % 10007).float())


def raw_keys(positions: torch.Tensor) -> torch.Tensor:
    """A key for every position, before rotary embedding: [..., units] -> [..., units, DIM] in fp32."""
    table = torch.randn(8192, DIM, generator=torch.Generator().manual_seed(0))
    return table[positions.long()]


def cache_of(**settings: object) -> locret.BudgetCache:
    model = tiny_llama(
        num_hidden_layers=1, num_attention_heads=HEADS, num_key_value_heads=HEADS, head_dim=DIM,
        max_position_embeddings=1 << 20,
    )  # fmt: skip
    budget = locret.Budget(positions="compact", **settings)
    return locret.BudgetCache(model, policy=Shuffled(), budget=budget)


def feed(cache: locret.BudgetCache, tokens: int, dtype: torch.dtype) -> None:
    """Read tokens without a model, as the hook on the decoder does."""
    for piece in cache.plan(tokens):
        first = first_slot(cache, 1, piece, torch.device("cpu"))
        cache.reading.next_slot = first[:, 0] + piece
        positions = torch.arange(cache.tokens_seen, cache.tokens_seen + piece).expand(1, HEADS, piece)
        slots = torch.arange(int(first), int(first) + piece).expand(1, HEADS, piece)
        keys = cache.reading.rotations[0].rotate(raw_keys(positions), slots).to(dtype)
        cache.layers[0].update(keys, keys)


def error(cache: locret.BudgetCache) -> float:
    """Relative error of the keys against those rotated once, in fp32."""
    layer = cache.layers[0]
    kept = cache.kept_positions(0)
    slots = layer.slots.turned + layer.slots.moves(layer.stored_pads()) * (layer.slots.packing is Packing.DUE)
    expected = cache.reading.rotations[0].rotate(raw_keys(kept), slots)
    return float((layer.read()[0].float() - expected).norm() / expected.norm())


@pytest.mark.parametrize("dtype", ONE_ROUNDING)
def test_a_key_is_rounded_when_it_arrives_and_when_it_is_read(dtype: torch.dtype) -> None:
    cache = cache_of(size=96, chunk=8, local=4)
    cache.begin_turn(1200)
    for _ in range(149):
        feed(cache, 8, dtype)
    oldest = int(cache.kept_positions(0).min())
    assert oldest < 400  # it has been moved some 100 times
    assert error(cache) < 2**0.5 * ONE_ROUNDING[dtype]
    feed(cache, 8, dtype)  # the last chunk and the tail; keys are moved for good
    assert cache.layers[0].slots.packing is Packing.PACKED
    assert error(cache) < 2**0.5 * ONE_ROUNDING[dtype]


@pytest.mark.parametrize("dtype", ONE_ROUNDING)
def test_while_writing_keys_are_moved_only_when_slots_run_out(dtype: torch.dtype) -> None:
    cache = cache_of(size=96, chunk=256, local=4, decode_budget=20)
    feed(cache, 400, dtype)
    packed, highest = 0, 0
    for _ in range(700):
        before = cache.reading.next_slot
        feed(cache, 1, dtype)
        packed += bool(cache.reading.next_slot <= before)
        highest = max(highest, int(cache.reading.next_slot))
    room = 96 + 256 - (96 + 4 + 20)  # slots between two moves
    assert packed <= 700 // room + 1
    assert highest == 96 + 256
    assert cache.stored == 96 + 4 + 20
    assert error(cache) < (packed + 2) ** 0.5 * ONE_ROUNDING[dtype]
    slots = cache.layers[0].slots.turned
    assert (slots.diff(dim=-1) > 0).all()  # the order of the prompt
