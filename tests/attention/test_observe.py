from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

import locret
from locret.attention.observe import observe_attention
from locret.attention.select import NAME
from locret.errors import LocretError
from tests.conftest import tiny_llama

IDS = torch.arange(2, 40)[None]


@pytest.fixture
def model() -> LlamaForCausalLM:
    return tiny_llama()


def ignore(layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> None:
    """An observer that does nothing."""


@pytest.mark.parametrize("padding", [0, 5])
def test_the_observed_pass_gives_the_same_logits(model: LlamaForCausalLM, padding: int) -> None:
    mask = torch.ones_like(IDS)
    mask[:, :padding] = 0
    plain = model(input_ids=IDS, attention_mask=mask).logits
    with observe_attention(model, ignore):
        observed = model(input_ids=IDS, attention_mask=mask).logits
    torch.testing.assert_close(observed, plain, atol=0, rtol=0)


def test_what_is_seen_gives_the_attention_weights(model: LlamaForCausalLM) -> None:
    weights: dict[int, Tensor] = {}

    def observe(layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> None:
        key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
        logits = scaling * query @ key.transpose(2, 3)
        future = torch.ones(logits.shape[-2:], dtype=torch.bool).triu(1)
        weights[layer] = logits.masked_fill(future, -torch.inf).softmax(-1)

    with observe_attention(model, observe):
        model(input_ids=IDS)
    model.set_attn_implementation("eager")
    expected = model(input_ids=IDS, output_attentions=True).attentions
    assert sorted(weights) == [0, 1, 2]
    for layer, attention in enumerate(expected):
        torch.testing.assert_close(weights[layer], attention, atol=1e-5, rtol=1e-4)


def test_the_implementation_comes_back_after_an_error(model: LlamaForCausalLM) -> None:
    model.set_attn_implementation("eager")
    with pytest.raises(RuntimeError), observe_attention(model, ignore):
        assert model.config._attn_implementation == NAME
        raise RuntimeError
    assert model.config._attn_implementation == "eager"
    with observe_attention(model, ignore):  # and the first observer is gone
        pass


def test_two_observers_at_once_are_refused(model: LlamaForCausalLM) -> None:
    with (
        observe_attention(model, ignore),
        pytest.raises(LocretError, match="observed already"),
        observe_attention(model, ignore),
    ):
        pass
    assert model.config._attn_implementation == "sdpa"


def test_a_budgeted_cache_reads_the_same_when_observed(model: LlamaForCausalLM) -> None:
    shapes: list[tuple[int, int]] = []
    budget = locret.Budget(size=16, chunk=8, stabilizers=4, local=4)

    def read() -> Tensor:
        cache = locret.BudgetCache(model, policy=locret.get_policy("random"), budget=budget)
        return torch.cat([model(input_ids=x, past_key_values=cache).logits for x in IDS.split(8, dim=1)], dim=1)

    plain = read()
    with observe_attention(model, lambda i, q, k, v, s: shapes.append((q.shape[2], k.shape[2]))):
        observed = read()
    torch.testing.assert_close(observed, plain, atol=1e-4, rtol=1e-4)
    assert (8, 24) in shapes  # a chunk beside a full budget


def test_models_are_observed_one_by_one(model: LlamaForCausalLM) -> None:
    other, seen = tiny_llama(seed=1), []
    with observe_attention(model, lambda *_: seen.append(1)), observe_attention(other, ignore):
        other(input_ids=IDS)
    assert not seen
