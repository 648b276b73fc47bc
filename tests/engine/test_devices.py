"""Layers on several devices, on a machine with one.

Fake tensors compute shapes and devices but no values, and refuse to meet tensors of another device, as CUDA's would.
They may be on `cpu:1` and `cpu:2`. What asks for values (whether a score is NaN) is replaced; which units to keep is
chosen without.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import locret
from locret.attention.select import use_attention
from locret.models.placement import devices_of, input_device
from tests.conftest import TINY_MODELS, make_policy

LAYERS = ("cpu:1", "cpu:2", "cpu:3")  # as cuda:0 ...; the embedding is beside the last layer, the head beside the first
EMBEDDING, HEAD, NORM = "cpu:3", "cpu:1", "cpu:2"


def moved(module: nn.Module, device: Any = None, dtype: torch.dtype | None = None) -> nn.Module:
    """`nn.Module.to`, which cannot move fake tensors."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                weight = weight.detach().to(device=device, dtype=dtype or weight.dtype)
                part._parameters[name] = nn.Parameter(weight, requires_grad=False)
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else buffer.to(device=device)
    return module


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(Tensor, "isnan", lambda tensor: False)
    monkeypatch.setattr(nn.Module, "to", moved)
    with FakeTensorMode(), torch.no_grad():
        yield


def split(family: str) -> Any:
    """A model in parts, as accelerate puts them on devices."""
    model = TINY_MODELS[family]()
    parts = dict(zip(model.model.layers, LAYERS, strict=True))
    parts |= {model.model.embed_tokens: EMBEDDING, model.model.norm: NORM, model.lm_head: HEAD}
    moved(model.model.rotary_emb, EMBEDDING)
    for part, device in parts.items():
        moved(part, device)
        add_hook_to_module(part, AlignDevicesHook(execution_device=device, skip_keys=["past_key_values"]))
    return model


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize("attention", ["split", "masked", "eager"])
@pytest.mark.parametrize("positions", ["true", "compact"])
@pytest.mark.parametrize("family", ["llama", "phi3", "smollm3"])
def test_everything_of_a_layer_is_where_it_computes(family: str, positions: str, attention: str) -> None:
    model = split(family)
    policy = make_policy("locret", model)
    budget = locret.Budget(size=40, chunk=32, stabilizers=8, local=10, positions=positions)
    cache = locret.BudgetCache(model, policy=policy, budget=budget)
    assert input_device(model) == torch.device(EMBEDDING)
    assert {str(device) for device in devices_of(model)} == set(LAYERS)
    cache.begin_turn(150)
    with use_attention(model, attention):
        for length in [*cache.plan(150), 1, 1]:
            ids = torch.zeros(1, length, dtype=torch.long, device=HEAD)  # decoding goes on where the logits are
            model(input_ids=ids, past_key_values=cache, use_cache=True)
    assert cache.stored == 40 + 10 + 2
    for layer, device in enumerate(LAYERS):
        held = cache.layers[layer]
        tensors = [held.positions, held.scores, *held.read(), *cache.reading.policy.heads.layers[layer].parameters()]
        assert {str(tensor.device) for tensor in tensors} == {device}


@pytest.mark.usefixtures("pretended")
def test_a_policy_that_asks_for_queries_and_one_that_asks_for_surprise() -> None:
    for name in ("h2o", "snapkv", "tova", "sirllm"):
        model = split("llama")
        cache = locret.BudgetCache(model, policy=make_policy(name, model), budget=locret.Budget(size=40, chunk=32))
        for _ in range(3):
            ids = torch.zeros(1, 32, dtype=torch.long, device=EMBEDDING)
            model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        assert [str(layer.scores.device) for layer in cache.layers] == list(LAYERS)
        assert cache.stored == 40
