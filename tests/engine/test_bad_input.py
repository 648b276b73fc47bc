"""Bad input gets one clear line that names the value, the limit and the remedy."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import locret
from tests.conftest import tiny_llama
from tests.eval.models import byte_llama, byte_tokenizer


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"size": 100, "stabilizers": 90, "local": 20},
            "size is 100, less than stabilizers .local = 90 . 20 = 110: raise",
        ),
        ({"size": 0}, "size is 0: give at least 1"),
        ({"size": 10, "chunk": 0}, "chunk is 0: give at least 1"),
        ({"size": 10, "pin_first": 4, "pin_newest": 7}, "pin_first = 4 and the newest 7: raise the size"),
        ({"size": 10, "pin_first": -1}, "pin_first is -1: give at least 0"),
        ({"size": 10, "stabilizers": -1}, "stabilizers is -1: give at least 0"),
        ({"size": 1.5}, "size is 1.5: give a whole number"),
        ({"size": True}, "size is True: give a whole number"),
        ({"size": 10, "positions": "relative"}, "positions is 'relative': choose one of true, compact"),
    ],
)
def test_impossible_budgets(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(locret.LocretError, match=message.replace(" .", r" \+ ").replace("  ", " ")):
        locret.Budget(**settings)


def engine(positions: str = "true", size: int = 40) -> locret.Engine:
    budget = locret.Budget(size=size, chunk=32, positions=positions)
    return locret.Engine(tiny_llama(max_position_embeddings=128), policy=locret.get_policy("random"), budget=budget)


def test_an_empty_prompt() -> None:
    for empty in ([], torch.zeros(1, 0, dtype=torch.long)):
        with pytest.raises(locret.LocretError, match="prompt is empty: give at least one token"):
            engine().prefill(empty)


def test_a_prompt_longer_than_the_window_with_true_positions() -> None:
    ids = [1] * 129
    with pytest.raises(locret.LocretError, match=r"129 tokens are more than the model's window of 128: .*compact"):
        engine().prefill(ids)
    assert engine("compact").prefill(ids * 4).tokens_seen == 516
    model = tiny_llama(max_position_embeddings=128)
    cache = locret.BudgetCache(model, policy=locret.get_policy("random"), budget=locret.Budget(size=40, chunk=32))
    with pytest.raises(locret.LocretError, match="129 tokens are more than the model's window of 128"):
        model(torch.tensor([ids]), past_key_values=cache)
    assert cache.tokens_seen == 0


def test_an_answer_that_would_leave_the_window() -> None:
    session = engine().prefill([1] * 120)
    with pytest.raises(locret.LocretError, match="more than the model's window of 128"):
        engine().generate(session, 20)
    assert len(engine().generate(session, 9).token_ids) == 9


def test_a_compact_budget_wider_than_the_window() -> None:
    with pytest.raises(
        locret.LocretError, match=r"120 stored units . a chunk of 32 are more than the model's window of 128"
    ):
        engine("compact", size=120).prefill([1] * 200)


def test_token_ids_outside_the_vocabulary_and_odd_shapes() -> None:
    with pytest.raises(locret.LocretError, match="token id 97 is outside the vocabulary of 97"):
        engine().prefill([3, 97])
    with pytest.raises(locret.LocretError, match="token id -1 is outside the vocabulary of 97"):
        engine().prefill([-1, 5])
    with pytest.raises(locret.LocretError, match=r"prompt has shape \(2, 3\): the engine reads one prompt at a time"):
        engine().prefill(torch.ones(2, 3, dtype=torch.long))
    with pytest.raises(locret.LocretError, match="a prompt of text needs a tokenizer"):
        engine().prefill("text")


@pytest.mark.parametrize(
    "settings, message",
    [({"temperature": -1.0}, "temperature is -1.0"), ({"top_k": 0}, "top_k is 0"), ({"top_p": 1.5}, "top_p is 1.5")],
)
def test_impossible_sampling(settings: dict[str, Any], message: str) -> None:
    session = engine().prefill([1, 2, 3])
    with pytest.raises(locret.LocretError, match=message):
        engine().generate(session, 5, **settings)
    with pytest.raises(locret.LocretError, match="max_new_tokens is 0: give at least 1"):
        engine().generate(session, 0)


def test_layers_that_do_not_exist_and_empty_caches() -> None:
    model = tiny_llama()
    cache = locret.BudgetCache(model, policy=locret.get_policy("random"), budget=locret.Budget(size=8))
    with pytest.raises(locret.LocretError, match="cache is empty: read a prompt first"):
        cache.kept_positions(0)
    with pytest.raises(locret.LocretError, match="layer 3 does not exist: the model has layers 0 to 2"):
        cache.kept_positions(3)


def test_padding_that_is_not_on_the_left() -> None:
    model = tiny_llama()
    cache = locret.BudgetCache(model, policy=locret.get_policy("random"), budget=locret.Budget(size=8))
    mask = torch.tensor([[1, 1, 0]])
    with pytest.raises(locret.LocretError, match="pad on the left"):
        model(torch.tensor([[1, 2, 0]]), attention_mask=mask, past_key_values=cache)


def test_a_model_without_a_decoder() -> None:
    with pytest.raises(locret.LocretError, match="Linear has no decoder with layers"):
        from locret.models.families import decoder_of

        decoder_of(torch.nn.Linear(2, 2))


def test_text_with_half_a_character_is_refused() -> None:
    budget = locret.Budget(size=64, chunk=32, stabilizers=8, local=8)
    engine = locret.Engine(byte_llama(), byte_tokenizer(), policy=locret.get_policy("full"), budget=budget)
    with pytest.raises(locret.LocretError, match=r"the prompt holds U\+D83D, half of a character"):
        engine.prefill("a \ud83d b")
