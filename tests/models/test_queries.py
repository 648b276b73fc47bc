"""Queries made from hooks are those that the attention computes with, in every family."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

import locret
from locret.attention.observe import observe_attention
from locret.policies import Units
from tests.conftest import TINY_MODELS


class Listening:
    """A policy that notes the queries it is offered."""

    name: ClassVar[str] = "listening"
    evicts: ClassVar[bool] = False
    scores_after_pass: ClassVar[bool] = False

    def __init__(self) -> None:
        self.heard: dict[int, torch.Tensor] = {}

    def check(self, model: Any) -> None:
        pass

    def score(self, units: Units) -> torch.Tensor:
        assert units.queries is not None
        self.heard[units.layer] = units.queries(5)
        return units.append(torch.zeros_like(units.new_positions, dtype=torch.float32))

    def rank(self, scores: torch.Tensor, positions: torch.Tensor, size: int) -> torch.Tensor:
        return scores


@pytest.mark.parametrize("positions", ["true", "compact"])
@pytest.mark.parametrize("family", TINY_MODELS)
def test_queries_are_those_of_the_attention(family: str, positions: str) -> None:
    model, policy = TINY_MODELS[family](), Listening()
    cache = locret.BudgetCache(model, policy=policy, budget=locret.Budget(64, 16, positions=positions))
    seen: dict[int, torch.Tensor] = {}

    def note(layer: int, query: torch.Tensor, *rest: Any) -> None:
        seen[layer] = rest[-1] * query[:, :, -5:].float()

    ids = torch.randint(1, 97, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), observe_attention(model, note):
        for begin in range(0, 40, 8):
            model(ids[:, begin : begin + 8], past_key_values=cache)
    assert policy.heard.keys() == set(cache.budgeted)
    for layer, heard in policy.heard.items():
        torch.testing.assert_close(heard, seen[layer], rtol=1e-5, atol=1e-5)
