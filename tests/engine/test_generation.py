"""Everything that `generate` does stays true with a budgeted cache."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import DynamicCache, TextStreamer

import locret
from tests.conftest import TINY_MODELS, make_policy, tiny_llama

PROMPT = 150


@pytest.fixture
def model() -> Any:
    return tiny_llama(initializer_range=0.5)


def ids(seed: int = 1, length: int = PROMPT, rows: int = 1) -> torch.Tensor:
    return torch.randint(1, 97, (rows, length), generator=torch.Generator().manual_seed(seed))


def cache_of(model: Any, size: int, prompt_length: int | None = None, **options: Any) -> locret.BudgetCache:
    budget = locret.Budget(size=size, chunk=32, stabilizers=8, local=6, **options)
    return locret.BudgetCache(model, policy=make_policy("locret", model), budget=budget, prompt_length=prompt_length)


WAYS = {
    "greedy": {"do_sample": False},
    "sampling": {"do_sample": True, "temperature": 0.9, "top_p": 0.8},
    "beams": {"num_beams": 4, "do_sample": False},
    "beam sampling": {"num_beams": 3, "do_sample": True},
    "several beams": {"num_beams": 4, "num_return_sequences": 3, "do_sample": False},
    "several samples": {"num_return_sequences": 3, "do_sample": True},
    "penalties": {"do_sample": False, "repetition_penalty": 1.3, "no_repeat_ngram_size": 3},
    "prompt lookup": {"do_sample": False, "prompt_lookup_num_tokens": 4},
    "chunks of generate": {"do_sample": False, "prefill_chunk_size": 32},
}


@pytest.mark.parametrize("positions", ["true", "compact"])
@pytest.mark.parametrize("way", WAYS)
def test_a_budget_that_covers_everything_equals_plain_transformers(model: Any, way: str, positions: str) -> None:
    prompt = ids()
    if way == "prompt lookup":  # something to look up
        prompt = torch.cat([prompt[:, :40]] * 4, dim=-1)
    torch.manual_seed(11)
    expected = model.generate(prompt, max_new_tokens=20, past_key_values=DynamicCache(config=model.config), **WAYS[way])
    cache = cache_of(model, 256, positions=positions, prompt_length=prompt.shape[1] if "lookup" in way else None)
    torch.manual_seed(11)
    found = model.generate(prompt, max_new_tokens=20, past_key_values=cache, **WAYS[way])
    assert found.tolist() == expected.tolist()


def test_a_prompt_of_one_chunk_is_looked_up_without_its_length(model: Any) -> None:
    prompt = torch.cat([ids(length=8)] * 3, dim=-1)
    plain = model.generate(prompt, max_new_tokens=12, past_key_values=cache_of(model, 48), do_sample=False)
    found = model.generate(
        prompt, max_new_tokens=12, past_key_values=cache_of(model, 48), do_sample=False, prompt_lookup_num_tokens=3
    )
    assert found.tolist() == plain.tolist()


@pytest.mark.parametrize("way", ["beams", "several beams", "several samples", "penalties"])
def test_with_eviction_every_way_stays_in_the_budget(model: Any, way: str) -> None:
    cache = cache_of(model, 48)
    out = model.generate(ids(), max_new_tokens=20, past_key_values=cache, **WAYS[way])
    assert out.shape == (WAYS[way].get("num_return_sequences", 1), PROMPT + 20)
    assert cache.stored == 48 + 6 + 19


def test_prompt_lookup_with_eviction_equals_greedy_decoding(model: Any) -> None:
    prompt = torch.cat([ids(length=40)] * 4, dim=-1)
    plain = model.generate(prompt, max_new_tokens=40, past_key_values=cache_of(model, 48), do_sample=False)
    looked = cache_of(model, 48, prompt_length=prompt.shape[1])
    found = model.generate(
        prompt, max_new_tokens=40, past_key_values=looked, do_sample=False, prompt_lookup_num_tokens=5
    )
    assert found.tolist() == plain.tolist()
    assert looked.stored == 48 + 6 + looked.tokens_seen - prompt.shape[1]


def test_assisted_decoding_equals_greedy_decoding(model: Any) -> None:
    assistant = tiny_llama(initializer_range=0.5, num_hidden_layers=1)
    plain = model.generate(ids(), max_new_tokens=30, past_key_values=cache_of(model, 48), do_sample=False)
    found = model.generate(
        ids(), max_new_tokens=30, past_key_values=cache_of(model, 48, prompt_length=PROMPT), do_sample=False,
        assistant_model=assistant,
    )  # fmt: skip
    assert found.tolist() == plain.tolist()


# Families whose layers or positions are unlike Llama's.
@pytest.mark.parametrize("positions", ["true", "compact"])
@pytest.mark.parametrize("family", ["gemma3_text", "phi3", "smollm3"])
def test_every_way_works_with_eviction_in_other_families(family: str, positions: str) -> None:
    model = TINY_MODELS[family](initializer_range=0.5)
    for way in ("beams", "several beams", "several samples"):
        cache = cache_of(model, 48, positions=positions, decode_budget=4)
        model.generate(ids(), max_new_tokens=20, past_key_values=cache, **WAYS[way])
        assert cache.stored == 48 + 6 + 4
    prompt = torch.cat([ids()[:, :50]] * 3, dim=-1)
    cache = cache_of(model, 48, positions=positions)
    plain = model.generate(prompt, max_new_tokens=20, past_key_values=cache, do_sample=False)
    cache = cache_of(model, 48, positions=positions, prompt_length=PROMPT)
    found = model.generate(prompt, max_new_tokens=20, past_key_values=cache, **WAYS["prompt lookup"])
    assert found.tolist() == plain.tolist()


def test_assisted_decoding_under_a_decode_budget_is_refused(model: Any) -> None:
    cache = cache_of(model, 48, prompt_length=PROMPT, decode_budget=2)
    prompt = torch.cat([ids()[:, :50]] * 3, dim=-1)
    with pytest.raises(locret.LocretError, match=r"cannot be taken back.*and no decode_budget"):
        model.generate(prompt, max_new_tokens=30, past_key_values=cache, **WAYS["prompt lookup"])


def test_assisted_decoding_without_the_prompt_length_is_refused(model: Any) -> None:
    with pytest.raises(locret.LocretError, match="give BudgetCache the prompt_length"):
        model.generate(
            ids(), max_new_tokens=5, past_key_values=cache_of(model, 48), do_sample=False, prompt_lookup_num_tokens=3
        )


def test_tokens_from_before_an_eviction_cannot_be_taken_back(model: Any) -> None:
    cache = cache_of(model, 48)
    with torch.no_grad():
        model(ids(), past_key_values=cache)
    with pytest.raises(locret.LocretError, match="10 tokens cannot be taken back"):
        cache.crop(-10)
    cache.crop(-6)  # the local tail came after the last cut
    assert cache.stored == 48 and cache.tokens_seen == PROMPT - 6


def test_a_streamer_sees_every_token(model: Any) -> None:
    class Words:
        def decode(self, tokens: list[int], **options: Any) -> str:
            return "".join(f"<{int(token)}>" for token in tokens)

    class Listening(TextStreamer):
        text = ""

        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            self.text += text

    streamer = Listening(Words(), skip_prompt=True)
    out = model.generate(
        ids(), max_new_tokens=9, past_key_values=cache_of(model, 48), do_sample=False, streamer=streamer
    )
    assert streamer.text == Words().decode(out[0, PROMPT:].tolist())


def test_several_turns_in_one_cache_equal_the_session_of_the_engine(model: Any) -> None:
    cache = cache_of(model, 48)
    first = model.generate(ids(), max_new_tokens=5, past_key_values=cache, do_sample=False)
    turn = torch.cat([first, ids(2, 70)], dim=-1)
    second = model.generate(turn, max_new_tokens=5, past_key_values=cache, do_sample=False)
    engine = locret.Engine(model, policy=make_policy("locret", model), budget=cache.budget)
    answered = engine.generate(engine.prefill(ids()), 5)
    again = engine.generate(engine.prefill(ids(2, 70)[0], answered.session), 5)
    assert second[0, -5:].tolist() == again.token_ids


def test_a_long_answer_under_a_decode_budget_holds_constant_bytes(model: Any) -> None:
    model = tiny_llama(max_position_embeddings=8192)
    cache = cache_of(model, 48, decode_budget=32)
    held = []
    hook = model.lm_head.register_forward_hook(lambda *_: held.append(cache.kv_bytes))
    model.generate(ids(), max_new_tokens=400, past_key_values=cache, do_sample=False)
    hook.remove()
    assert len(held) == 400
    assert len(set(held[40:])) == 1
    assert cache.stored == 48 + 6 + 32


@pytest.mark.slow
def test_4096_tokens_under_a_decode_budget_of_256_hold_constant_bytes() -> None:
    model = tiny_llama(max_position_embeddings=8192)
    cache = cache_of(model, 48, decode_budget=256)
    held = []
    hook = model.lm_head.register_forward_hook(lambda *_: held.append(cache.kv_bytes))
    model.generate(ids(), max_new_tokens=4096, past_key_values=cache, do_sample=False)
    hook.remove()
    units, layers, heads, head_dim, fp32 = 48 + 6 + 256, 3, 2, 8, 4
    full = units * layers * heads * 2 * head_dim * fp32
    assert len(held) == 4096
    assert held[0] < held[100] < full  # it grows until the budget is full
    assert set(held[256:]) == {full}
    assert cache.tokens_seen == PROMPT + 4095


def test_compact_positions_write_past_the_window(model: Any) -> None:
    model = tiny_llama(max_position_embeddings=256)
    cache = cache_of(model, 48, decode_budget=32, positions="compact")
    out = model.generate(ids(), max_new_tokens=400, past_key_values=cache, do_sample=False)
    assert out.shape[1] == PROMPT + 400
    with pytest.raises(locret.LocretError, match="more than the model's window of 256"):
        model.generate(ids(), max_new_tokens=400, past_key_values=cache_of(model, 48), do_sample=False)


@pytest.mark.parametrize("length", [9, 31, 32, 33])
def test_a_prompt_that_comes_whole_is_read_as_by_the_engine_whatever_its_length(model: Any, length: int) -> None:
    budget = locret.Budget(size=16, chunk=32, stabilizers=4, local=6)
    policy, prompt, question = make_policy("locret", model), ids(length=length), ids(2, 20)
    engine = locret.Engine(model, policy=policy, budget=budget)
    session = engine.prefill(prompt)
    cache = locret.BudgetCache(model, policy=policy, budget=budget)
    first = model.generate(prompt, past_key_values=cache, max_new_tokens=4, do_sample=False)
    result = engine.generate(session, 4)
    assert first[0, length:].tolist() == result.token_ids
    for layer in range(3):
        assert torch.equal(cache.kept_positions(layer), result.session.cache.kept_positions(layer))
    # A turn of fewer tokens than may be decoded at once is a turn all the same.
    both = torch.cat([first, question], -1)
    mask = torch.ones_like(both)  # an answer may hold the padding token
    second = model.generate(both, attention_mask=mask, past_key_values=cache, max_new_tokens=4, do_sample=False)
    answer = engine.generate(engine.prefill(question, result.session), 4)
    assert second[0, -4:].tolist() == answer.token_ids
    for layer in range(3):
        assert torch.equal(cache.kept_positions(layer), answer.session.cache.kept_positions(layer))


@pytest.mark.parametrize("local", [0, 6])
def test_writing_in_two_goes_is_writing_at_once(model: Any, local: int) -> None:
    budget = locret.Budget(size=16, chunk=32, stabilizers=4, local=local)
    engine = locret.Engine(model, policy=make_policy("locret", model), budget=budget)
    session = engine.prefill(ids())
    whole, first = engine.generate(session, 8), engine.generate(session, 3)
    second = engine.generate(first.session, 5)
    assert first.token_ids + second.token_ids == whole.token_ids
    for layer in range(3):
        assert torch.equal(whole.session.cache.kept_positions(layer), second.session.cache.kept_positions(layer))
