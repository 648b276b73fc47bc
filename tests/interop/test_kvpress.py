"""Locret's heads as a press, and kvpress itself: missing, broken, of another version."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, Phi3Config, Phi3ForCausalLM

import locret
from locret.errors import LocretError
from locret.interop import kvpress as interop
from locret.interop import presses
from locret.interop.press_policy import PressPolicy
from locret.models.families import attention_modules
from tests.conftest import tiny_llama
from tests.eval.models import TEXT
from tests.interop.conftest import KEPT, TOKENS, prompt


def tiny_phi3() -> Phi3ForCausalLM:
    torch.manual_seed(0)
    return Phi3ForCausalLM(
        Phi3Config(
            vocab_size=97, hidden_size=48, intermediate_size=64, num_hidden_layers=3, num_attention_heads=6,
            num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.3, bos_token_id=0,
            eos_token_id=None, pad_token_id=0,
        )
    ).eval()  # fmt: skip


def made_heads(model: Any) -> locret.RetainingHeads:
    torch.manual_seed(7)
    return locret.RetainingHeads.from_config(model.config, width=16)


@pytest.mark.parametrize("make_model", [tiny_llama, tiny_phi3])
@torch.no_grad()
def test_locret_press_scores_and_keeps_what_the_policy_does(kvpress: Any, make_model: Callable[[], Any]) -> None:
    model, scored = make_model(), {}
    heads = made_heads(model)

    class Seen(interop.LocretPress):  # type: ignore[misc]
        def score(self, module: Any, *arguments: Any) -> Tensor:
            scored[module.layer_idx] = super().score(module, *arguments)
            return scored[module.layer_idx]

    pruned, whole = DynamicCache(), DynamicCache()
    with Seen(compression_ratio=1 - KEPT / TOKENS, heads=heads)(model):
        model(prompt(), past_key_values=pruned)
    model(prompt(), past_key_values=whole)
    budget = locret.Budget(size=TOKENS, chunk=TOKENS)
    everything = locret.BudgetCache(model, policy=locret.get_policy("locret", heads=heads), budget=budget)
    model(prompt(), past_key_values=everything)
    for layer, left in enumerate(pruned.layers):
        torch.testing.assert_close(scored[layer], everything.layers[layer].scores)
        best = scored[layer].topk(KEPT).indices[..., None].expand(-1, -1, -1, left.keys.shape[-1])
        assert torch.equal(left.keys, whole.layers[layer].keys.gather(2, best))
        assert torch.equal(left.values, whole.layers[layer].values.gather(2, best))


@torch.no_grad()
def test_locret_press_inside_a_wrapper_and_out_of_its_block(kvpress: Any) -> None:
    model = tiny_llama()
    press = kvpress.ChunkPress(interop.LocretPress(compression_ratio=0.75, heads=made_heads(model)), chunk_length=20)
    cache, after = DynamicCache(), DynamicCache()
    with interop.supply_cache_position(model), press(model):
        model(prompt(), past_key_values=cache)
    model(prompt(), past_key_values=after)
    assert [layer.keys.shape[2] for layer in (*cache.layers, *after.layers)] == [15] * 3 + [60] * 3
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in attention_modules(model))


def test_locret_press_in_the_pipeline_of_kvpress(kvpress: Any) -> None:
    model, tokenizer, _ = locret.load_builtin()
    pipeline = kvpress.KVPressTextGenerationPipeline(model=model, tokenizer=tokenizer)
    press = interop.LocretPress(compression_ratio=0.5, heads=made_heads(model))
    answers = pipeline(TEXT[:2000], questions=["Who asked?", "Why?"], press=press, max_new_tokens=4)["answers"]
    assert len(answers) == 2


def test_heads_of_another_model_are_refused(kvpress: Any) -> None:
    press = interop.LocretPress(compression_ratio=0.5, heads=made_heads(tiny_phi3()))
    with pytest.raises(LocretError, match="these retaining heads are of another model"), press(tiny_llama()):
        pass


@pytest.mark.parametrize("use", [interop.list_presses, lambda: interop.LocretPress, lambda: PressPolicy("SnapKVPress")])
def test_without_kvpress(monkeypatch: pytest.MonkeyPatch, use: Callable[[], object]) -> None:
    def nothing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(presses, "version", nothing)
    monkeypatch.delitem(sys.modules, "locret.interop.locret_press", raising=False)
    with pytest.raises(LocretError, match=r"kvpress is not installed: pip install 'locret\[kvpress\]'"):
        use()


def test_without_what_kvpress_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presses, "version", lambda name: presses.TESTED)
    monkeypatch.setitem(sys.modules, "kvpress", None)
    with pytest.raises(LocretError, match=r"kvpress cannot be imported .*: pip install 'locret\[kvpress\]'"):
        interop.load_kvpress()


def test_another_version_of_kvpress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presses, "version", lambda name: "9.9.9")
    with pytest.raises(LocretError, match=r"kvpress 9\.9\.9 was never tried with locret, 0\.5\.5 was"):
        interop.load_kvpress()
