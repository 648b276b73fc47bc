"""Threads on one model: each gets what it would alone, and so does whoever uses the model without locret."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

import locret
from locret.attention.select import chosen_attention, use_attention
from tests.conftest import LONG_ROPE, make_policy, tiny, tiny_llama

BUDGET = locret.Budget(size=64, chunk=32, stabilizers=8, local=8)
SECONDS = 20.0  # that a test waits for the other thread before it fails


def ids(length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(1, 97, (1, length), generator=torch.Generator().manual_seed(seed))


def phi3() -> Any:
    return tiny(
        "phi3", max_position_embeddings=4096, original_max_position_embeddings=128, num_key_value_heads=6,
        rope_parameters=dict(LONG_ROPE),
    )()  # fmt: skip


def while_inside(model: Any, inside: Callable[[], Any], beside: Callable[[], Any], passes: int = 2) -> tuple[Any, Any]:
    """Run `beside` here while another thread stands between two layers of its pass number `passes` of `inside`."""
    entered, done, counted = threading.Event(), threading.Event(), [0]

    def stop(*_: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            counted[0] += 1
            if counted[0] == passes:
                entered.set()
                assert done.wait(SECONDS)

    handle = model.model.layers[1].register_forward_pre_hook(stop)
    try:
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(inside)
            assert entered.wait(SECONDS)
            mine = beside()
            done.set()
            return other.result(), mine
    finally:
        done.set()
        handle.remove()


@pytest.mark.parametrize("own", ["sdpa", "eager"])
@pytest.mark.parametrize("attention", ["split", "masked", "eager"])
def test_another_engine_inside_a_pass(own: str, attention: str) -> None:
    model = tiny_llama()
    model.set_attn_implementation(own)
    engine = locret.Engine(model, policy=locret.get_policy("h2o"), budget=BUDGET, attention=attention)
    one, two = engine.prefill(ids(200, 1)).logits, engine.prefill(ids(180, 2)).logits
    other, mine = while_inside(model, lambda: engine.prefill(ids(200, 1)), lambda: engine.prefill(ids(180, 2)))
    assert torch.equal(other.logits, one)
    assert torch.equal(mine.logits, two)
    assert model.config._attn_implementation == own


@pytest.mark.parametrize("own", ["sdpa", "eager"])
def test_plain_passes_keep_the_models_own_attention(own: str) -> None:
    model = tiny_llama()
    model.set_attn_implementation(own)
    engine = locret.Engine(model, policy=locret.get_policy("full"), budget=BUDGET)
    prompt = ids(90)
    with torch.no_grad():
        first = model(prompt[:, :50])
        alone = model(prompt[:, 50:], past_key_values=first.past_key_values, output_attentions=own == "eager")

        def plain() -> Any:
            with torch.no_grad():
                begun = model(prompt[:, :50])
                return model(prompt[:, 50:], past_key_values=begun.past_key_values, output_attentions=own == "eager")

        _, beside = while_inside(model, lambda: engine.prefill(ids(200)), plain)
    assert torch.equal(beside.logits, alone.logits)
    if own == "eager":
        assert torch.equal(beside.attentions[1], alone.attentions[1])


def test_the_choice_is_the_threads_alone() -> None:
    model = tiny_llama()
    seen: list[str] = []
    with use_attention(model, "eager"), ThreadPoolExecutor(1) as pool:
        mine = model(ids(9), output_attentions=True).attentions
        pool.submit(lambda: seen.append(str(model(ids(9)).attentions))).result()
    assert mine is not None
    assert seen == ["None"]
    assert model.config._attn_implementation == "sdpa"


def test_who_wraps_an_attention_function_may_give_dropout_by_its_place() -> None:
    model = tiny_llama()
    module: Any = model.model.layers[0].self_attn
    query = torch.rand(1, module.config.num_attention_heads, 3, 16)
    key, value = torch.rand(2, 1, module.config.num_key_value_heads, 3, 16)
    with use_attention(model, "eager"):
        by_name = chosen_attention(module, query, key, value, None, dropout=0.0, scaling=0.25)[0]
        by_place = chosen_attention(module, query, key, value, None, 0.0, scaling=0.25)[0]
    assert torch.equal(by_name, by_place)


def test_blocks_within_blocks_and_the_end_of_all() -> None:
    model = tiny_llama()
    with use_attention(model, "split"):
        with use_attention(model, "eager"):
            assert model(ids(9), output_attentions=True).attentions[0] is not None
        assert model.config._attn_implementation != "sdpa"
    assert model.config._attn_implementation == "sdpa"


def test_longrope_is_held_for_the_run_alone() -> None:
    model, short = phi3(), ids(60)
    engine = locret.Engine(model, policy=locret.get_policy("streaming_llm"), budget=BUDGET)
    with torch.no_grad():
        plain, long = model(short).logits, engine.prefill(ids(400, 3)).logits

        def beside() -> torch.Tensor:
            with torch.no_grad():
                logits: torch.Tensor = model(short).logits
                return logits

        other, mine = while_inside(model, lambda: engine.prefill(ids(400, 3)), beside)
    assert torch.equal(mine, plain)
    assert torch.equal(other.logits, long)


def test_many_at_once() -> None:
    model = tiny_llama()
    engines = [
        locret.Engine(model, policy=make_policy(name, model), budget=BUDGET, attention=attention)
        for name, attention in (("locret", "split"), ("snapkv", "eager"), ("sirllm", "masked"))
    ]
    jobs = [(engine, ids(150 + seed, seed)) for engine in engines for seed in range(4)]
    alone = [engine.generate(engine.prefill(prompt), 6).token_ids for engine, prompt in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda job: job[0].generate(job[0].prefill(job[1]), 6).token_ids, jobs))
    assert together == alone
