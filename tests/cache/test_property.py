"""Thousands of random readings: the cache against a model of it made of lists."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache as memoised
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import locret
from locret.cache.slots import first_slot
from locret.policies.base import Units
from tests.cache.naive import NaiveCache
from tests.conftest import tiny_llama

LAYERS, HEADS, DIM = 2, 2, 4


@memoised
def model() -> nn.Module:
    return tiny_llama(
        num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=HEADS, head_dim=DIM, hidden_size=8,
        max_position_embeddings=1 << 20,
    )  # fmt: skip


@dataclass(frozen=True)
class Coarse:
    """Scores of few different values, so that ties are everywhere; some are infinite."""

    seed: int
    any_order: bool = True
    name: ClassVar[str] = "coarse"
    evicts: ClassVar[bool] = True
    scores_after_pass: ClassVar[bool] = False

    def check(self, model: nn.Module) -> None:
        pass

    def of(self, layer: int, head: int, position: int) -> float:
        value = (position * 7919 + head * 104729 + layer * 1299709 + self.seed * 31) % 1009 % 5
        return float("inf") if value == 4 and position % 11 == 0 else float(value)

    def rank(self, scores: torch.Tensor, positions: torch.Tensor, size: int) -> torch.Tensor:
        return scores

    def score(self, units: Units) -> torch.Tensor:
        rows = units.new_positions[0].tolist()
        return units.append(torch.tensor([[[self.of(units.layer, h, p) for p in row] for h, row in enumerate(rows)]]))


def raw_keys(positions: torch.Tensor) -> torch.Tensor:
    """A key that tells its position: [..., units] -> [..., units, DIM], before rotary embedding."""
    return torch.stack([positions * 0.25, torch.ones_like(positions), positions * -0.5, positions * 0.0 + 2], -1)


def read(cache: locret.BudgetCache, tokens: int, together: bool = False) -> list[int]:
    """What a forward pass of `tokens` does to the cache, without a model behind it; layers are cut together or not."""
    pieces = cache.plan(tokens)
    if tokens > 1:
        cache.make_room()
    for piece in pieces:
        if cache.budget.positions == "true":
            start = cache.tokens_seen
        else:  # as the hook on the decoder does
            first = first_slot(cache, 1, piece, torch.device("cpu"))
            start, cache.reading.next_slot = int(first), first[:, 0] + piece
        new = torch.arange(cache.tokens_seen, cache.tokens_seen + piece).float().expand(1, HEADS, piece)
        spots = torch.arange(start, start + piece).expand(1, HEADS, piece)
        keys = cache.reading.rotations[0].rotate(raw_keys(new), spots)
        if together:
            cache.reading.cuts.begin()
        for layer in range(LAYERS):
            stored = cache.layers[layer].storage.units
            seen_keys, seen_values = cache.layers[layer].update(keys, raw_keys(new))
            assert seen_keys.shape[-2] == seen_values.shape[-2] == stored + piece  # the pass sees all of itself
        cache.reading.cuts.end()
    return pieces


def slots_of(naive: NaiveCache, layer: int) -> torch.Tensor:
    if naive.due:
        return torch.arange(naive.stored).expand(1, HEADS, -1)
    return torch.tensor([[naive.slots[layer, head] for head in range(HEADS)]])


def taken(units: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    return units.gather(-2, order[..., None].expand(*order.shape, DIM))


def check(cache: locret.BudgetCache, naive: NaiveCache) -> None:
    assert cache.tokens_seen == naive.seen
    for layer in range(LAYERS):
        expected = torch.tensor([[naive.units[layer, head] for head in range(HEADS)]])
        kept = cache.kept_positions(layer)
        assert torch.equal(kept, expected)
        positions = cache.layers[layer].positions
        order = positions.argsort(dim=-1)
        if not cache.reading.policy.any_order or naive.budget.positions == "compact":
            assert torch.equal(positions, kept)
        keys, values = (taken(part, order) for part in cache.layers[layer].read())
        assert torch.equal(values, raw_keys(kept.float()))
        spots = kept if naive.budget.positions == "true" else slots_of(naive, layer)
        rotated = cache.reading.rotations[0].rotate(raw_keys(kept.float()), spots)
        torch.testing.assert_close(keys, rotated, rtol=1e-3, atol=1e-2)
    assert cache.kv_bytes == LAYERS * HEADS * naive.stored * DIM * 2 * 4


budgets = st.builds(
    lambda extra, chunk, stabilizers, local, positions, answer, every, first, newest: locret.Budget(
        max(1, stabilizers + local + extra, first + max(stabilizers, newest)),
        chunk, stabilizers, local, positions, answer, every, first, newest,
    ),
    st.integers(0, 12), st.integers(1, 12), st.integers(0, 6), st.integers(0, 6), st.sampled_from(["true", "compact"]),
    st.none() | st.integers(0, 5), st.integers(1, 4), st.integers(0, 4), st.integers(0, 8),
)  # fmt: skip
steps = st.lists(
    st.tuples(st.sampled_from(["prompt", "chunk", "decode", "crop", "fork"]), st.integers(1, 40)),
    min_size=1, max_size=8,
)  # fmt: skip


@settings(max_examples=3000, deadline=None, derandomize=True)
@given(
    budget=budgets, seed=st.integers(0, 1000), steps=steps, any_order=st.booleans(),
    storage=st.sampled_from(["dense", "dense", "dynamic"]), together=st.booleans(),
)  # fmt: skip
def test_any_reading_keeps_what_the_naive_cache_keeps(
    budget: locret.Budget, seed: int, steps: list[tuple[str, int]], any_order: bool, storage: str, together: bool
) -> None:
    policy = Coarse(seed, any_order)
    cache = locret.BudgetCache(model(), policy=policy, budget=budget, storage=storage)
    pairs = [(cache, NaiveCache(budget, policy.of, LAYERS, HEADS))]
    del cache
    for action, amount in steps:
        cache, naive = pairs[-1]
        if action == "fork":  # from here on only the fork goes on; the original must stay as it is
            pairs.append((cache.fork(), naive.fork()))
        elif action == "prompt":
            cache.begin_turn(amount)
            assert read(cache, amount, together) == naive.prompt(amount)
        elif action == "chunk":
            assert read(cache, amount, together) == naive.chunk(amount)
        elif action == "decode":
            for _ in range(amount % 17):
                assert read(cache, 1, together) == naive.chunk(1)
        elif naive.can_crop(amount % 9):
            naive.crop(amount % 9)
            cache.crop(-(amount % 9))
        elif naive.seen:
            with pytest.raises(locret.LocretError, match="cannot be taken back"):
                cache.crop(-(amount % 9))
    for cache, naive in pairs:
        if naive.seen:
            check(cache, naive)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(budget=budgets, length=st.integers(1, 200))
def test_a_prompt_never_holds_more_than_budget_chunk_and_tail(budget: locret.Budget, length: int) -> None:
    cache = locret.BudgetCache(model(), policy=Coarse(0), budget=budget)
    cache.begin_turn(length)
    assert sum(read(cache, length)) == length
    assert cache.stored == min(length, budget.size + min(budget.local, length))
