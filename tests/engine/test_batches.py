"""Prompts in one left-padded batch answer as each of them alone, in every family, position mode and attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import locret
from locret.attention.select import use_attention
from tests.conftest import TINY_MODELS, make_policy, tiny_llama

LENGTHS = (24, 72, 217)  # about 1 : 3 : 9; the first fits one chunk and is never cut
STEPS = 32


def prompts(seed: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, 97, (length,), generator=generator) for length in LENGTHS]


def padded(rows: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.stack([torch.cat([torch.zeros(width - len(row), dtype=torch.long), row]) for row in rows])
    return ids, torch.stack([(torch.arange(width) >= width - len(row)).long() for row in rows])


def answer(model: Any, cache: locret.BudgetCache, ids: torch.Tensor, mask: torch.Tensor | None = None) -> Any:
    return model.generate(
        ids, attention_mask=mask, past_key_values=cache, max_new_tokens=STEPS, do_sample=False,
        output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip


@pytest.mark.parametrize("attention", ["split", "masked", "eager"])
@pytest.mark.parametrize("positions", ["true", "compact"])
@pytest.mark.parametrize("family", TINY_MODELS)
def test_a_padded_batch_equals_each_prompt_alone(family: str, positions: str, attention: str) -> None:
    model = TINY_MODELS[family](initializer_range=0.5)
    policy = make_policy("locret", model)
    budget = locret.Budget(size=48, chunk=32, stabilizers=8, local=6, positions=positions)
    rows = prompts()
    ids, mask = padded(rows)
    with use_attention(model, attention):
        together = locret.BudgetCache(model, policy=policy, budget=budget)
        batch = answer(model, together, ids, mask)
        for row, prompt in enumerate(rows):
            cache = locret.BudgetCache(model, policy=policy, budget=budget)
            alone = answer(model, cache, prompt[None])
            steps = range(STEPS)
            for step in steps:
                torch.testing.assert_close(batch.logits[step][row], alone.logits[step][0], rtol=1e-3, atol=1e-3)
            assert batch.sequences[row, ids.shape[1] :].tolist() == alone.sequences[0, len(prompt) :].tolist()
            for layer in cache.budgeted:
                kept = cache.kept_positions(layer)[0]
                padding = ids.shape[1] - len(prompt)
                assert torch.equal(together.kept_positions(layer)[row, :, -kept.shape[-1] :] - padding, kept)


def test_a_padded_batch_goes_on_for_a_second_turn() -> None:
    model = tiny_llama(initializer_range=0.5)
    budget = locret.Budget(size=48, chunk=32, stabilizers=8, local=6)
    policy = make_policy("locret", model)
    ids, mask = padded(prompts())
    cache = locret.BudgetCache(model, policy=policy, budget=budget)
    first = model.generate(ids, attention_mask=mask, past_key_values=cache, max_new_tokens=4, do_sample=False)
    turn = torch.randint(1, 97, (3, 40), generator=torch.Generator().manual_seed(8))
    longer = torch.cat([first, turn], -1)
    mask = torch.cat([mask, torch.ones(3, 44, dtype=torch.long)], -1)
    answered = model.generate(longer, attention_mask=mask, past_key_values=cache, max_new_tokens=4, do_sample=False)
    assert cache.tokens_seen == answered.shape[1] - 1
    assert cache.stored <= budget.size + budget.local + 4


def test_budget_mode_of_a_batch_without_padding_is_that_of_each_row() -> None:
    model = tiny_llama(initializer_range=0.5)
    budget = locret.Budget(size=48, chunk=32, stabilizers=8)
    policy = make_policy("locret", model)
    rows = [torch.randint(1, 97, (150,), generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    batch = answer(model, locret.BudgetCache(model, policy=policy, budget=budget), torch.stack(rows))
    for row, prompt in enumerate(rows):
        alone = answer(model, locret.BudgetCache(model, policy=policy, budget=budget), prompt[None])
        assert batch.sequences[row].tolist() == alone.sequences[0].tolist()


@pytest.mark.parametrize("local", [0, 12])
@pytest.mark.parametrize("known", [False, True])
def test_rows_that_are_read_together_in_pieces(known: bool, local: int) -> None:
    model = tiny_llama(initializer_range=0.5)
    rows = [prompt[:length] for prompt, length in zip(prompts(), (5, 24, 60), strict=False)]  # the first is all tail
    ids, mask = padded(rows)
    budget = locret.Budget(size=128, chunk=64, local=local)
    cache = locret.BudgetCache(
        model, policy=locret.get_policy("full"), budget=budget, prompt_length=ids.shape[1] if known else None
    )
    batch, plain = answer(model, cache, ids, mask), answer(model, None, ids, mask)
    for one, two in zip(batch.logits, plain.logits, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("every", [1, 4, 5])
def test_rows_evict_while_they_write_as_each_alone(every: int) -> None:
    model = tiny_llama(initializer_range=0.5, vocab_size=20000)  # of few tokens some would tie
    policy = make_policy("locret", model)
    budget = locret.Budget(size=24, chunk=16, stabilizers=4, local=4, decode_budget=4, decode_every=every)
    rows = [
        torch.randint(1, 20000, (length,), generator=torch.Generator().manual_seed(length)) for length in (21, 33, 60)
    ]
    ids, mask = padded(rows)
    batch = answer(model, locret.BudgetCache(model, policy=policy, budget=budget), ids, mask)
    for row, prompt in enumerate(rows):
        alone = answer(model, locret.BudgetCache(model, policy=policy, budget=budget), prompt[None])
        assert batch.sequences[row, ids.shape[1] :].tolist() == alone.sequences[0, len(prompt) :].tolist()
