"""Outputs that a pass read in pieces does not give are refused, not cut; prompts that cannot be, in words."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import locret
from tests.conftest import tiny_llama

CHUNK, LOCAL = 32, 8


def ids(length: int, rows: int = 1) -> torch.Tensor:
    return torch.randint(3, 97, (rows, length), generator=torch.Generator().manual_seed(length))


def cache_of(model: Any, policy: str = "full", **options: Any) -> locret.BudgetCache:
    budget = locret.Budget(size=400, chunk=CHUNK, stabilizers=8, local=LOCAL)
    return locret.BudgetCache(model, policy=locret.get_policy(policy), budget=budget, **options)


def test_a_pass_of_one_piece_gives_what_plain_transformers_does() -> None:
    model, prompt = tiny_llama(), ids(CHUNK)
    with torch.no_grad():
        plain = model(prompt, labels=prompt, output_hidden_states=True)
        ours = model(prompt, labels=prompt, output_hidden_states=True, past_key_values=cache_of(model))
        kept = model(prompt, logits_to_keep=20, past_key_values=cache_of(model)).logits
    torch.testing.assert_close(ours.loss, plain.loss)
    assert [state.shape for state in ours.hidden_states] == [state.shape for state in plain.hidden_states]
    torch.testing.assert_close(kept, plain.logits[:, -20:])


@pytest.mark.parametrize(
    "wanted",
    [
        {"labels": ids(100)},
        {"logits_to_keep": LOCAL + 1},
        {"logits_to_keep": torch.tensor([3, 99])},
        {"output_hidden_states": True},
        {"output_attentions": True},
    ],
)
def test_a_pass_of_several_pieces_refuses_more_than_the_last(wanted: dict[str, Any]) -> None:
    model = tiny_llama()
    cache = cache_of(model)
    [name] = wanted
    with pytest.raises(locret.LocretError, match=f"{name} asks for more than the last 8 of 100 tokens.*chunk = 32"):
        model(ids(100), past_key_values=cache, **wanted)
    assert (cache.tokens_seen, cache.reading.prompt_length) == (0, None)
    with torch.no_grad():  # nothing of the refused pass is left
        assert model(ids(90), past_key_values=cache, logits_to_keep=LOCAL).logits.shape[1] == LOCAL


def test_rows_of_a_padded_batch_give_one_position_each() -> None:
    model, prompt = tiny_llama(), ids(100, rows=2)
    mask = torch.ones_like(prompt)
    mask[0, :40] = 0
    with pytest.raises(locret.LocretError, match="logits_to_keep asks for more than the last 1 of 100 tokens"):
        model(prompt, attention_mask=mask, past_key_values=cache_of(model), logits_to_keep=2)


def test_other_caches_are_not_looked_at() -> None:
    model, prompt = tiny_llama(), ids(100)
    cache_of(model)
    assert model(prompt, labels=prompt).logits.shape[1] == 100


@pytest.mark.parametrize("given", [20, 100])
def test_a_used_cache_with_the_question_alone_says_what_to_give(given: int) -> None:
    model = tiny_llama()
    cache = cache_of(model)
    model.generate(ids(200), past_key_values=cache, max_new_tokens=10, do_sample=False)
    with pytest.raises(locret.LocretError, match=r"has read 209 tokens.*give all tokens so far.*cache.reset\(\)"):
        model.generate(ids(given), past_key_values=cache, max_new_tokens=4, do_sample=False)
    with pytest.raises(locret.LocretError, match="the prompt is empty: give at least one token"):
        model(ids(5)[:, :0], past_key_values=cache_of(model))


@pytest.mark.parametrize(
    "prompt, message",
    [
        (torch.tensor([[5, -1, 97]]), "token id -1 is outside the vocabulary of 97"),
        (torch.tensor([[5, 97]]), "token id 97 is outside"),
        (torch.tensor([[5.0, 6.5]]), "token ids are of torch.float32, the first is 5.0"),
        (torch.tensor([[True, False]]), "token ids are of torch.bool"),
    ],
)
def test_a_pass_of_what_are_no_token_ids(prompt: torch.Tensor, message: str) -> None:
    model = tiny_llama()
    with pytest.raises(locret.LocretError, match=message):
        model(prompt, past_key_values=cache_of(model))
