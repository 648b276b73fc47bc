"""LongRoPE (Phi-3): the factors are chosen once for a run, by its length, and the cache is never thrown away."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import DynamicCache

import locret
from locret.models.rope import LongRope
from tests.conftest import LONG_ROPE, make_policy, tiny, tiny_llama

POINT = LONG_ROPE["original_max_position_embeddings"]


def phi3(**changes: Any) -> Any:
    """Phi-3-mini-128K's proportions scaled down: fused projections, LongRoPE with a window 32 times the original."""
    return tiny(
        "phi3", max_position_embeddings=4096, original_max_position_embeddings=POINT, num_key_value_heads=6,
        rope_parameters=dict(LONG_ROPE),
    )(**changes)  # fmt: skip


def ids(length: int) -> torch.Tensor:
    return torch.randint(1, 97, (1, length), generator=torch.Generator().manual_seed(length))


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("length", [100, POINT - 1, POINT, POINT + 1, POINT + 20, 300, 1000])
@pytest.mark.parametrize("chunk", [16, 50, POINT])
@pytest.mark.parametrize("attention", ["split", "masked", "eager"])
def test_read_in_chunks_across_the_switch_equals_one_pass(length: int, chunk: int, attention: str) -> None:
    model, prompt = phi3(), ids(length)
    budget = locret.Budget(size=2048, chunk=chunk, local=7)
    engine = locret.Engine(model, policy=make_policy("locret", model), budget=budget, attention=attention)
    session = engine.prefill(prompt)
    with torch.no_grad():
        plain = model(prompt).logits[0, -1]
    assert error(session.logits, plain) < 1e-4
    for layer, keys in enumerate(plain_keys(model, prompt)):
        stored, _ = session.cache.layers[layer].storage.read()
        assert error(stored, keys) < 1e-4


def plain_keys(model: Any, prompt: torch.Tensor) -> list[torch.Tensor]:
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(prompt, past_key_values=cache)
    return [layer.keys for layer in cache.layers]


def test_an_answer_that_crosses_the_switch_equals_one_pass_with_the_long_factors() -> None:
    model, prompt = phi3(initializer_range=0.5), ids(POINT - 10)
    cache = locret.BudgetCache(
        model, policy=make_policy("full", model), budget=locret.Budget(size=4096, chunk=64), total_length=POINT + 30
    )
    out = model.generate(
        prompt, past_key_values=cache, max_new_tokens=40, do_sample=False, output_logits=True,
        return_dict_in_generate=True,
    )  # fmt: skip
    assert out.past_key_values is cache and cache.tokens_seen == POINT + 29  # nothing was read twice
    with torch.no_grad():
        plain = model(out.sequences).logits[0, POINT - 11 : -1]
    assert error(torch.cat(out.logits), plain) < 1e-4


def test_without_a_total_length_the_short_factors_stay_and_a_warning_says_so() -> None:
    model, prompt = phi3(), ids(POINT - 10)
    cache = locret.BudgetCache(model, policy=make_policy("full", model), budget=locret.Budget(size=4096, chunk=256))
    with pytest.warns(UserWarning, match=f"passes position {POINT}.*give total_length"):
        model.generate(prompt, past_key_values=cache, max_new_tokens=20, do_sample=False)
    assert cache.tokens_seen == POINT + 9


def test_the_engine_reserves_room_for_the_answer() -> None:
    model, prompt = phi3(), ids(POINT - 10)
    engine = locret.Engine(model, policy=make_policy("full", model), budget=locret.Budget(size=4096, chunk=64))
    rope = LongRope.of(model)
    assert torch.equal(engine.prefill(prompt).cache.reading.frozen, rope.short)
    assert torch.equal(engine.prefill(prompt, answer_tokens=11).cache.reading.frozen, rope.long)


def test_generate_in_chunks_of_unknown_length_takes_the_long_factors() -> None:
    model, prompt = phi3(), ids(4 * 32)
    cache = locret.BudgetCache(model, policy=make_policy("full", model), budget=locret.Budget(size=4096, chunk=32))
    model.generate(prompt, past_key_values=cache, max_new_tokens=5, do_sample=False, prefill_chunk_size=32)
    assert torch.equal(cache.reading.frozen, LongRope.of(model).long)
    assert cache.tokens_seen == 4 * 32 + 4


def test_other_caches_of_the_same_model_are_untouched() -> None:
    model, prompt = phi3(), ids(POINT + 5)
    before = model(prompt[:, :50]).logits
    model.generate(
        prompt, max_new_tokens=3, do_sample=False,
        past_key_values=locret.BudgetCache(model, policy=make_policy("full", model), budget=locret.Budget(4096)),
    )  # fmt: skip
    assert model.model.rotary_emb.rope_type == "longrope"
    assert torch.equal(model(prompt[:, :50]).logits, before)
    locret.detach(model)
    assert "prepare_inputs_for_generation" not in model.__dict__


def test_compact_positions_with_eviction_across_the_switch_run_in_the_budget() -> None:
    model = phi3()
    budget = locret.Budget(size=64, chunk=32, stabilizers=8, local=4, positions="compact")
    engine = locret.Engine(model, policy=make_policy("locret", model), budget=budget)
    session = engine.prefill(ids(900))
    # No position ever passes 64 + 32 + 4, so the short factors are the right ones.
    assert torch.equal(session.cache.reading.frozen, LongRope.of(model).short)
    assert session.cache.stored == 68


def test_models_that_cannot_work_are_refused_by_name() -> None:
    budget = locret.Budget(32, 16)
    sliding = tiny("mistral", sliding_window=64)()
    with pytest.raises(locret.LocretError, match="every layer of this mistral model has a sliding window of 64"):
        locret.BudgetCache(sliding, policy=locret.get_policy("full"), budget=budget)
    dynamic = tiny_llama(rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0})
    with pytest.raises(locret.LocretError, match="RoPE scaling of type 'dynamic'"):
        locret.BudgetCache(dynamic, policy=locret.get_policy("full"), budget=budget)
    dynamic.config.model_type = "deepseek_v3"
    with pytest.raises(locret.LocretError, match="'deepseek_v3' cannot be read in a budget: its latent attention"):
        locret.BudgetCache(dynamic, policy=locret.get_policy("full"), budget=budget)
    wide = tiny("mistral", sliding_window=512)()  # covers the whole window: nothing slides
    assert locret.BudgetCache(wide, policy=locret.get_policy("full"), budget=budget).sliding == []
