"""Work that is broken off: what was there before is as it was, or whoever goes on is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList

import locret
from tests.conftest import LONG_ROPE, make_policy, tiny, tiny_llama

BUDGET = locret.Budget(size=64, chunk=32, stabilizers=8, local=8)
ENDINGS = [KeyboardInterrupt, MemoryError, RuntimeError]


def ids(length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(1, 97, (1, length), generator=torch.Generator().manual_seed(seed))


@contextmanager
def broken_off(model: Any, ending: type[BaseException], passes: int = 3) -> Iterator[None]:
    """In its pass number `passes` the model fails between two layers; that is expected."""
    counted = [0]

    def fail(*_: Any) -> None:
        counted[0] += 1
        if counted[0] == passes:
            raise ending

    handle = model.model.layers[1].register_forward_pre_hook(fail)
    try:
        with pytest.raises(ending):
            yield
    finally:
        handle.remove()


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("storage", ["dense", "quant4", "offloaded"])
@pytest.mark.parametrize("name", ["full", "locret", "h2o", "sirllm"])
def test_a_cache_refuses_to_go_on_and_reset_makes_it_new(name: str, storage: str, ending: type[BaseException]) -> None:
    model = tiny_llama()
    policy = make_policy(name, model)

    def new() -> locret.BudgetCache:
        return locret.BudgetCache(model, policy=policy, budget=BUDGET, storage=storage)

    def answer(cache: locret.BudgetCache) -> torch.Tensor:
        return model.generate(ids(200), past_key_values=cache, max_new_tokens=8, do_sample=False)

    cache = new()
    with broken_off(model, ending):
        answer(cache)
    for go_on in (lambda: answer(cache), cache.fork, lambda: model(ids(3), past_key_values=cache)):
        with pytest.raises(locret.LocretError, match=r"broken off after \d+ tokens: make a new cache, or call reset"):
            go_on()
    cache.reset()
    assert torch.equal(answer(cache), answer(new()))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_session_is_as_before(ending: type[BaseException]) -> None:
    model = tiny_llama()
    engine = locret.Engine(model, policy=locret.get_policy("tova"), budget=BUDGET)
    session = engine.prefill(ids(200))
    before = engine.generate(session, 8).token_ids
    with broken_off(model, ending, passes=2):
        engine.prefill(ids(100, 1), session)
    with broken_off(model, ending):
        engine.generate(session, 8)
    assert engine.generate(session, 8).token_ids == before


@pytest.mark.parametrize("ending", ENDINGS)
def test_longrope_is_let_go(ending: type[BaseException]) -> None:
    model = tiny(
        "phi3", max_position_embeddings=4096, original_max_position_embeddings=128, num_key_value_heads=6,
        rope_parameters=dict(LONG_ROPE),
    )()  # fmt: skip
    engine = locret.Engine(model, policy=locret.get_policy("streaming_llm"), budget=BUDGET)
    with torch.no_grad():
        before = model(ids(60)).logits
        with broken_off(model, ending):
            engine.prefill(ids(400))
        assert torch.equal(model(ids(60)).logits, before)
    assert model.model.rotary_emb.rope_type == "longrope"


class FailsAt(LogitsProcessor):
    def __init__(self, calls: int) -> None:
        self.calls = calls

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.calls -= 1
        if not self.calls:
            raise RuntimeError("a processor of the user's")
        return scores


@pytest.mark.parametrize("where", ["processor", "pass"])
def test_an_answer_has_what_was_written_before(where: str) -> None:
    model = tiny_llama()
    engine = locret.Engine(model, policy=locret.get_policy("h2o"), budget=BUDGET)
    session = engine.prefill(ids(200))
    whole = engine.generate(session, 8).token_ids
    if where == "processor":
        answer = engine.stream(session, 8, processors=LogitsProcessorList([FailsAt(5)]))
        with pytest.raises(RuntimeError, match="of the user"):
            list(answer)
    else:
        answer = engine.stream(session, 8)
        with broken_off(model, KeyboardInterrupt, passes=4):
            list(answer)
    with pytest.raises(locret.LocretError, match=r"broken off after 4 tokens: take result\(\)"):
        iter(answer)
    result = answer.result()
    assert result.token_ids == whole[:4]
    assert engine.generate(result.session, 4).token_ids == whole[4:]


def test_a_loop_that_was_left_is_gone_on_with() -> None:
    model, tokenizer, heads = locret.load_builtin()
    budget = locret.Budget(size=128, chunk=128, local=16)
    engine = locret.Engine(model, tokenizer, policy=locret.get_policy("locret", heads=heads), budget=budget)
    session = engine.prefill("One, two, three, four, five. " * 40)
    whole = engine.generate(session, 12)
    answer = engine.stream(session, 12)
    first = next(iter(answer))
    assert first + "".join(answer) == whole.text
    assert list(answer) == []
    assert answer.result().token_ids == whole.token_ids
    assert torch.equal(answer.result().session.logits, whole.session.logits)


def test_a_closed_generator_leaves_an_answer_that_goes_on() -> None:
    model = tiny_llama()
    engine = locret.Engine(model, policy=locret.get_policy("h2o"), budget=BUDGET)
    session = engine.prefill(ids(200))
    whole = engine.generate(session, 8).token_ids
    answer = engine.stream(session, 3)
    list(answer)
    assert engine.generate(answer.result().session, 5).token_ids == whole[3:]


def test_without_hooks_nothing_goes_on() -> None:
    model = tiny_llama()
    for name in ("full", "random", "h2o"):
        for positions in ("true", "compact"):
            budget = locret.Budget(size=64, chunk=32, local=8, positions=positions)
            engine = locret.Engine(model, policy=locret.get_policy(name), budget=budget)
            session = engine.prefill(ids(200))
            expected = engine.generate(session, 4).token_ids
            locret.detach(model)
            with pytest.raises(locret.LocretError, match=r"hooks are off.*locret\.attach"):
                engine.generate(session, 4)
            locret.attach(model)
            assert engine.generate(session, 4).token_ids == expected
