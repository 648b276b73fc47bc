"""Hooks are copied with the model, once, and a copy is as good as the original."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch

import locret
from tests.conftest import LONG_ROPE, TINY_MODELS, make_policy, tiny

IDS = torch.randint(1, 97, (1, 150), generator=torch.Generator().manual_seed(3))
MODELS = {
    **TINY_MODELS,
    "phi3 with LongRoPE": tiny(
        "phi3", max_position_embeddings=4096, original_max_position_embeddings=128, num_key_value_heads=6,
        rope_parameters=dict(LONG_ROPE),
    ),
}  # fmt: skip


def read(model: Any, name: str, positions: str) -> list[torch.Tensor]:
    budget = locret.Budget(size=40, chunk=32, stabilizers=8, local=8, positions=positions)
    cache = locret.BudgetCache(model, policy=make_policy(name, model), budget=budget)
    output = model.generate(
        IDS, past_key_values=cache, max_new_tokens=3, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    return [torch.cat(output.logits), *(cache.kept_positions(layer) for layer in cache.budgeted)]


@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("family", MODELS)
def test_a_copy_reads_as_the_original(family: str, make_copy: Any) -> None:
    model = MODELS[family]()
    expected = read(model, "snapkv", "compact"), read(model, "sirllm", "true")
    twin = make_copy(model)
    assert twin is not model
    for found, wanted in zip((read(twin, "snapkv", "compact"), read(twin, "sirllm", "true")), expected, strict=True):
        for one, two in zip(found, wanted, strict=True):
            assert torch.equal(one, two)
    with torch.no_grad():  # and it is a copy: the original's weights are others now
        for weight in model.parameters():
            weight.zero_()
    assert torch.equal(read(twin, "snapkv", "compact")[0], expected[0][0])


def test_detach_takes_everything_off_a_copy_and_leaves_the_original() -> None:
    model = MODELS["phi3 with LongRoPE"]()
    read(model, "h2o", "true")
    twin = copy.deepcopy(model)
    locret.detach(twin)
    hooks = [
        hook
        for module in twin.modules()
        for table in (module._forward_hooks, module._forward_pre_hooks)
        for hook in table.values()
    ]
    assert hooks == []
    assert "prepare_inputs_for_generation" not in twin.__dict__
    assert model.model._forward_pre_hooks
    read(twin, "h2o", "true")  # a new cache puts them on again
