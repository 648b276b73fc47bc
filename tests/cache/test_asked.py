"""The question's queries, asked again: those that the model itself would compute behind what has been read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

import locret
from locret.attention.observe import observe_attention
from locret.models.taps import tap_projections
from locret.policies import Units
from tests.conftest import TINY_MODELS, tiny_llama

QUESTION = 7


@dataclass
class Listening:
    """Keeps the newest units, and notes what it is offered."""

    asks_again: int = QUESTION
    heard: dict[int, list[Tensor | None]] = field(default_factory=dict)
    name: ClassVar[str] = "listening"
    evicts: ClassVar[bool] = True
    scores_after_pass: ClassVar[bool] = False

    def check(self, model: Any) -> None:
        pass

    def score(self, units: Units) -> Tensor:
        self.heard.setdefault(units.layer, []).append(units.asked)
        return units.append(units.new_positions.float())

    def rank(self, scores: Tensor, positions: Tensor, size: int) -> Tensor:
        return scores


def prompt(length: int, rows: int = 1) -> Tensor:
    return torch.randint(1, 97, (rows, length), generator=torch.Generator().manual_seed(1))


def budget(positions: str = "true", **changes: Any) -> locret.Budget:
    return locret.Budget(**{"size": 20, "chunk": 16, "positions": positions, **changes})


@torch.no_grad()
def read(model: Any, cache: locret.BudgetCache, ids: Tensor, chunk: int = 16) -> None:
    for piece in ids.split(chunk, dim=1):
        model(piece, past_key_values=cache)


@pytest.mark.parametrize("positions", ["true", "compact"])
@pytest.mark.parametrize("family", TINY_MODELS)
def test_they_are_the_models_own_queries_behind_the_newest_unit(family: str, positions: str) -> None:
    """The question is the prompt's beginning, so in no layer does it depend on more than itself and where it stands."""
    model, policy, ids = TINY_MODELS[family](), Listening(), prompt(48, rows=2)
    cache = locret.BudgetCache(model, policy=policy, budget=budget(positions))
    read(model, cache, ids)
    expected: dict[int, Tensor] = {}

    def note(layer: int, query: Tensor, *rest: Any) -> None:
        expected[layer] = rest[-1] * query.float()

    behind = 48 if positions == "true" else 20 + 16  # a chunk behind the kept units, then the question
    with torch.no_grad(), observe_attention(model, note):
        model(ids[:, :QUESTION], position_ids=torch.arange(behind, behind + QUESTION)[None], use_cache=False)
    assert set(policy.heard) == set(cache.budgeted)
    for layer, heard in policy.heard.items():
        assert heard[-1] is not None
        torch.testing.assert_close(heard[-1], expected[layer], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk", [16, 3])  # the question comes in one pass, or in three
def test_in_every_layer_they_are_the_projections_rotated_by_transformers(chunk: int) -> None:
    model, policy, ids = tiny_llama(), Listening(), prompt(48)
    projected: dict[int, list[Tensor]] = {}
    cache = locret.BudgetCache(model, policy=policy, budget=budget(chunk=chunk))
    with tap_projections(model, lambda layer, found: projected.setdefault(layer, []).append(found.q)):
        read(model, cache, ids, chunk)
    for at in range(48 // chunk):
        seen = (at + 1) * chunk
        cos, sin = model.model.rotary_emb(torch.zeros(1), torch.arange(seen, seen + QUESTION)[None])
        for layer, heard in policy.heard.items():
            if seen < QUESTION:
                assert heard[at] is None
                continue
            raw = torch.cat(projected[layer], dim=1)[:, :QUESTION].unflatten(-1, (6, 8)).transpose(1, 2)
            expected, _ = apply_rotary_pos_emb(raw, raw, cos, sin)
            torch.testing.assert_close(heard[at], expected * 8**-0.5, rtol=1e-4, atol=1e-5)


def test_nothing_is_kept_for_a_policy_that_does_not_ask() -> None:
    model, policy = tiny_llama(), Listening(asks_again=0)
    cache = locret.BudgetCache(model, policy=policy, budget=budget())
    read(model, cache, prompt(48))
    assert all(asked is None for heard in policy.heard.values() for asked in heard)
    assert all(layer.asked.queries is None for layer in cache.layers)


def test_a_fork_a_selection_and_a_reset_have_their_own() -> None:
    model, policy, ids = tiny_llama(), Listening(), prompt(48, rows=3)
    cache = locret.BudgetCache(model, policy=policy, budget=budget())
    read(model, cache, ids[:, :32])
    fork = cache.fork()
    fork.batch_select_indices(torch.tensor([2, 0]))
    read(model, cache, ids[:, 32:])
    whole = policy.heard[1][-1]
    read(model, fork, ids[[2, 0], 32:])
    chosen = policy.heard[1][-1]
    assert whole is not None and chosen is not None
    torch.testing.assert_close(chosen, whole[[2, 0]])
    cache.reset()
    assert cache.layers[1].asked.queries is None
    read(model, cache, ids[:, 4:36])
    other = policy.heard[1][-1]
    assert other is not None and not torch.allclose(other, whole)


def test_a_padded_batch_has_none() -> None:
    model, policy, ids = tiny_llama(), Listening(), prompt(12, rows=2)
    cache = locret.BudgetCache(model, policy=policy, budget=budget())
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    with torch.no_grad():
        model(ids, attention_mask=mask, past_key_values=cache)
    assert policy.heard[0] == [None]
