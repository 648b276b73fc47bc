"""Decoding in static shapes against the engine's own decoding, which is the naive way."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import locret
from locret.engine.static import SLOTS_AT_ONCE
from tests.conftest import LONG_ROPE, TINY_MODELS, make_policy, tiny, tiny_llama
from tests.eval.models import byte_tokenizer

IDS = torch.randint(1, 97, (130,), generator=torch.Generator().manual_seed(5))
SLIDING = ("gemma3_text", "olmo3")
MODELS = {name: make for name, make in TINY_MODELS.items() if name not in SLIDING} | {
    "phi3, LongRoPE": tiny("phi3", partial_rotary_factor=1.0, rope_parameters=LONG_ROPE, sliding_window=1000),
}


def engines(model: Any, budget: locret.Budget, **settings: Any) -> tuple[locret.Engine, locret.Engine]:
    """The engine that appends to its cache, and the static one."""
    policy = make_policy("locret", model)
    naive, static = (
        locret.Engine(model, policy=policy, budget=budget, static=static, **settings) for static in (False, True)
    )
    return naive, static


@pytest.mark.parametrize("positions", ["true", "compact"])
@pytest.mark.parametrize("local", [0, 10])
@pytest.mark.parametrize("name", MODELS)
def test_it_writes_what_the_growing_cache_writes(name: str, local: int, positions: Any) -> None:
    model = MODELS[name]()
    budget = locret.Budget(size=48, chunk=32, stabilizers=8, local=local, positions=positions)
    naive, static = engines(model, budget)
    session = naive.prefill(IDS, answer_tokens=20)
    expected, answer = naive.stream(session, 20), static.stream(session, 20)
    assert list(expected) == list(answer) == []  # no tokenizer, no text
    assert answer.tokens == expected.tokens
    torch.testing.assert_close(answer.logits, expected.logits, rtol=1e-4, atol=1e-4)
    assert session.cache.stored == budget.size + local  # the session is as it was


@pytest.mark.parametrize("storage", ["dense", "dynamic"])
def test_the_answer_is_read_when_the_session_goes_on(storage: str) -> None:
    model = tiny_llama()
    naive, static = engines(model, locret.Budget(size=48, chunk=32, stabilizers=8, local=10), storage=storage)
    result = static.generate(static.prefill(IDS), 6)
    assert result.session.pending == tuple(result.token_ids)
    assert result.session.tokens_seen == len(IDS)
    after = static.prefill([3, 5], result.session)
    assert after.token_ids.tolist() == [[*IDS.tolist(), *result.token_ids, 3, 5]]
    again = naive.prefill([*result.token_ids, 3, 5], naive.prefill(IDS))
    assert torch.equal(after.logits, again.logits)
    part = static.generate(static.prefill(IDS), 4)
    rest = static.generate(part.session, 2)
    assert [*part.token_ids, *rest.token_ids] == result.token_ids


def test_buffers_are_used_again_and_by_one_answer_at_a_time() -> None:
    model = tiny_llama()
    naive, static = engines(model, locret.Budget(size=48, chunk=32, stabilizers=8, local=10))
    sessions = [naive.prefill(IDS[:90]), naive.prefill(IDS.flip(0))]
    expected = [naive.generate(session, 12).token_ids for session in sessions]
    for _ in range(3):
        assert [static.generate(session, 12).token_ids for session in sessions] == expected
    assert static.static is not None
    (first,) = static.static.idle
    assert first.slots == SLOTS_AT_ONCE
    with static.static.writing(sessions[0].cache, 12) as one, static.static.writing(sessions[1].cache, 12) as other:
        assert one is first and other is not first
        tokens = [[ids[0]] for ids in expected]
        for at in range(11):  # in turns
            for own, decoder in zip(tokens, (one, other), strict=True):
                output = decoder(input_ids=torch.tensor([[own[at]]]))
                own.append(int(output.logits[0, -1].argmax()))
    assert tokens == expected
    assert len(static.static.idle) == 2
    static.generate(sessions[0], SLOTS_AT_ONCE)  # does not fit: larger buffers take the place of both
    assert [own.slots for own in static.static.idle] == [2 * SLOTS_AT_ONCE]


def test_an_answer_that_is_left_gives_its_buffers_back() -> None:
    model = tiny_llama(vocab_size=256)
    policy, budget = make_policy("locret", model), locret.Budget(size=48, chunk=32, stabilizers=8, local=10)
    engine = locret.Engine(model, byte_tokenizer(), policy=policy, budget=budget, static=True)
    answer = engine.stream(engine.prefill(IDS), 100)
    pieces = iter(answer)
    next(pieces)
    assert engine.static is not None and not engine.static.idle
    pieces.close()
    assert len(engine.static.idle) == 1
    result = answer.result()
    assert 0 < len(result.token_ids) < 100
    assert result.stats.kv_bytes == result.session.kv_bytes + engine.static.idle[0].nbytes


@pytest.mark.parametrize(
    "settings, reason",
    [
        ({"storage": "quant4"}, "the storage does not hold plain units on the device"),
        ({"storage": "offloaded"}, "the storage does not hold plain units on the device"),
        ({"decode_budget": 5}, "decode_budget evicts"),
        ({"model": "gemma3_text"}, "layers with a sliding window"),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, Any], reason: str) -> None:
    model = TINY_MODELS[settings.get("model", "llama")]()
    budget = locret.Budget(size=48, chunk=32, decode_budget=settings.get("decode_budget"))
    with pytest.raises(locret.LocretError, match=f"static decoding is not possible: .*{reason}.*leave static=False"):
        locret.Engine(
            model, policy=make_policy("random", model), budget=budget, static=True,
            storage=settings.get("storage", "dense"),
        )  # fmt: skip


@pytest.mark.gpu
@pytest.mark.parametrize("positions", ["true", "compact"])
@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("mixtral", "qwen3_moe")])
def test_a_recorded_pass_writes_what_the_growing_cache_writes(name: str, positions: Any) -> None:
    model = MODELS[name]().cuda()
    budget = locret.Budget(size=48, chunk=32, stabilizers=8, local=10, positions=positions)
    naive, static = engines(model, budget)
    for ids in (IDS, IDS.flip(0)):  # the second is replayed in the buffers of the first
        session = naive.prefill(ids, answer_tokens=20)
        assert static.generate(session, 20).token_ids == naive.generate(session, 20).token_ids
    assert static.static is not None
    (decoder,) = static.static.idle
    assert decoder.graph is not None
