"""Retaining heads folded with the projections: the same scores, and never those of other weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import locret
from locret.models.families import Projections, attention_modules, budgeted_layers, family_of, shapes_of
from tests.conftest import TINY_MODELS, tiny_llama


def made(model: Any, width: int = 24) -> locret.RetainingHeads:
    torch.manual_seed(3)
    heads = locret.RetainingHeads.from_config(model.config, width=width)
    heads.place_beside(model)
    return heads


def both_scores(model: Any, heads: locret.RetainingHeads, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """By the definition, and from the hidden state."""
    module, family = attention_modules(model)[layer], family_of(model.config)
    hidden = torch.randn(2, 9, model.config.hidden_size, dtype=model.dtype)
    with torch.no_grad():
        outputs = [module.get_submodule(name)(hidden) for name in family.projections]
        projections = family.split(outputs, shapes_of(model.config))
        return heads.score(layer, projections), heads.score(layer, projections, hidden)


@pytest.mark.parametrize("family", TINY_MODELS)
def test_scores_from_the_hidden_state_are_those_of_the_projections(family: str) -> None:
    model = TINY_MODELS[family]()
    for module in attention_modules(model):
        for part in module.modules():
            if isinstance(part, nn.Linear) and part.bias is not None:
                nn.init.normal_(part.bias)
    heads = made(model)
    layers: Any = heads.layers
    assert [layer for layer, head in enumerate(layers) if head.folded is not None] == budgeted_layers(model.config)
    for layer in budgeted_layers(model.config):
        plain, folded = both_scores(model, heads, layer)
        torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_folding_rounds_no_more_than_projections_do(dtype: torch.dtype) -> None:
    exact = tiny_llama()
    model = copy.deepcopy(exact).to(dtype)
    heads, reference = made(model), made(exact)
    hidden = torch.randn(1, 200, model.config.hidden_size).to(dtype)
    module = attention_modules(model)[0]
    with torch.no_grad():
        projections = Projections(*(module.get_submodule(name)(hidden) for name in ("q_proj", "k_proj", "v_proj")))
        exactly = Projections(
            *(
                attention_modules(exact)[0].get_submodule(name)(hidden.float())
                for name in ("q_proj", "k_proj", "v_proj")
            )
        )
        wanted = reference.score(0, exactly)
        plain = (heads.score(0, projections) - wanted).square().mean().sqrt()
        folded = (heads.score(0, projections, hidden) - wanted).square().mean().sqrt()
    assert folded < 1.5 * plain


def test_a_wide_hidden_state_is_not_folded() -> None:
    heads = made(tiny_llama(hidden_size=96, head_dim=8))  # [q; k; v] has 80
    layers: Any = heads.layers
    assert all(head.folded is None for head in layers)


class Adapted(nn.Linear):
    """A projection that adds something, as adapters do."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input) + 1.0


def test_projections_that_are_no_plain_linear_maps_are_not_folded() -> None:
    model = tiny_llama()
    module: Any = attention_modules(model)[1]
    wide = module.v_proj
    module.v_proj = Adapted(wide.in_features, wide.out_features, bias=False)
    heads = made(model)
    layers: Any = heads.layers
    assert [head.folded is None for head in layers] == [False, True, False]
    plain, other = both_scores(model, heads, 1)
    assert torch.equal(plain, other)


@pytest.mark.parametrize("part", ["projection", "head", "replaced"])
def test_weights_that_change_are_folded_again(part: str) -> None:
    model = tiny_llama()
    heads = made(model)
    module: Any = attention_modules(model)[0]
    with torch.no_grad():
        if part == "projection":
            module.k_proj.weight.mul_(2)
        elif part == "head":
            heads.layers[0].fc1.weight.neg_()
        else:
            module.q_proj.weight = nn.Parameter(torch.randn_like(module.q_proj.weight))
    plain, stale = both_scores(model, heads, 0)
    assert not torch.allclose(plain, stale)
    heads.place_beside(model)  # as for every new cache
    torch.testing.assert_close(*both_scores(model, heads, 0), rtol=1e-4, atol=1e-5)


def test_folding_again_without_a_change_does_nothing() -> None:
    model = tiny_llama()
    heads = made(model)
    before = [head.folded for head in heads.layers]
    heads.place_beside(model)
    assert all(head.folded is old for head, old in zip(heads.layers, before, strict=True))


def test_gradients_are_those_of_the_head_itself() -> None:
    model = tiny_llama()
    heads = made(model)
    module = attention_modules(model)[0]
    hidden = torch.randn(1, 4, model.config.hidden_size)
    projections = Projections(*(module.get_submodule(name)(hidden) for name in ("q_proj", "k_proj", "v_proj")))
    heads.score(0, projections, hidden).sum().backward()
    assert heads.layers[0].fc1.weight.grad is not None


def test_nothing_folded_is_saved(tmp_path: Path) -> None:
    model = tiny_llama()
    heads = made(model)
    heads.save_pretrained(tmp_path)
    again = locret.RetainingHeads.from_pretrained(tmp_path)
    assert (
        set(again.state_dict())
        == set(heads.state_dict())
        == {f"layers.{i}.fc{j}.weight" for i in range(3) for j in (1, 2)}
    )
    assert all(head.folded is None for head in again.layers)


def test_the_cache_scores_from_the_hidden_state(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_llama()
    heads, seen = made(model), []
    score = locret.RetainingHeads.score

    def spy(self: Any, layer: int, projections: Any, hidden: Any = None) -> torch.Tensor:
        torch.testing.assert_close(projections.q, attention_modules(model)[layer].get_submodule("q_proj")(hidden))
        seen.append(layer)
        return score(self, layer, projections, hidden)

    monkeypatch.setattr(locret.RetainingHeads, "score", spy)
    policy = locret.get_policy("locret", heads=heads)
    locret.Engine(model, policy=policy, budget=locret.Budget(size=16, chunk=16)).prefill(list(range(1, 50)))
    assert set(seen) == {0, 1, 2}
