"""The rivals against their published rules: scores without eviction, kept sets with it, padding, decoding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.functional import avg_pool1d, cross_entropy

import locret
from locret.policies.statistics import received_attention
from tests.conftest import TINY_MODELS, make_policy, tiny_llama
from tests.policies import naive

RIVALS = ["h2o", "tova", "snapkv", "sirllm", "locret_q"]
every_rival = pytest.mark.parametrize("name", RIVALS)


def prompt(length: int, seed: int = 0, rows: int = 1) -> torch.Tensor:
    return torch.randint(1, 97, (rows, length), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def read(model: Any, policy: Any, budget: locret.Budget, ids: torch.Tensor) -> locret.BudgetCache:
    """Read chunk by chunk; the cache does not know where the prompt ends."""
    cache = locret.BudgetCache(model, policy=policy, budget=budget)
    for begin in range(0, ids.shape[1], budget.chunk):
        model(ids[:, begin : begin + budget.chunk], past_key_values=cache)
    return cache


@torch.no_grad()
def attention_of(model: Any, ids: torch.Tensor) -> list[torch.Tensor]:
    """Plain transformers: the attention matrix of every layer, [kv_heads, group, tokens, tokens]."""
    model.set_attn_implementation("eager")
    attentions = model(ids, output_attentions=True, use_cache=False).attentions
    model.set_attn_implementation("sdpa")
    return [weights[0].unflatten(0, (model.config.num_key_value_heads, -1)) for weights in attentions]


@pytest.mark.parametrize("chunk", [16, 300])  # several passes; one of three blocks of queries
def test_h2o_scores_are_the_column_sums_of_attention(chunk: int) -> None:
    model, ids = tiny_llama(), prompt(300)
    cache = read(model, locret.get_policy("h2o"), locret.Budget(300, chunk), ids)
    for layer, attention in zip(cache.layers, attention_of(model, ids), strict=True):
        torch.testing.assert_close(layer.scores[0], attention.sum(2).mean(1), rtol=1e-4, atol=1e-5)


def test_tova_scores_are_the_attention_of_the_last_query() -> None:
    model, ids = tiny_llama(), prompt(70)
    cache = read(model, locret.get_policy("tova"), locret.Budget(70, 16), ids)
    for layer, attention in zip(cache.layers, attention_of(model, ids), strict=True):
        expected = attention[:, :, -1].mean((0, 1)).expand(2, -1)
        torch.testing.assert_close(layer.scores[0], expected, rtol=1e-4, atol=1e-6)


def test_snapkv_scores_are_the_pooled_attention_of_the_window() -> None:
    model, ids = tiny_llama(), prompt(80)
    cache = read(model, locret.get_policy("snapkv", window=8), locret.Budget(80, 16), ids)
    for layer, attention in zip(cache.layers, attention_of(model, ids), strict=True):
        expected = avg_pool1d(attention[:, :, -8:, :-8].mean((1, 2)), 5, 1, 2)
        torch.testing.assert_close(layer.scores[0, :, :-8], expected, rtol=1e-4, atol=1e-6)
        assert (layer.scores[0, :, -8:] == 1).all()


@pytest.mark.parametrize(
    ("family", "changes"), [("llama", {}), ("granite", {"logits_scaling": 4.0}), ("gemma3_text", {})]
)
def test_sirllm_scores_are_the_cross_entropy_of_each_pass(family: str, changes: dict[str, Any]) -> None:
    model, ids = TINY_MODELS[family](**changes), prompt(48)
    cache = read(model, locret.get_policy("sirllm"), locret.Budget(64, 16), ids)
    with torch.no_grad():
        logits = model(ids, use_cache=False).logits[0]
    losses = cross_entropy(logits[:-1], ids[0, 1:], reduction="none")
    expected = torch.cat([losses[:1], losses])
    for first in (0, 16, 32):
        expected[first] = expected[first + 1 : first + 16].max()
    for layer in cache.budgeted:
        torch.testing.assert_close(cache.layers[layer].scores[0], expected.expand(2, -1), rtol=1e-4, atol=1e-4)


RULES: list[tuple[str, dict[str, Any], Callable[..., list[int]]]] = [
    ("h2o", {}, naive.h2o),
    ("tova", {}, naive.tova),
    ("snapkv", {"window": 8}, naive.snapkv(8)),
    ("sirllm", {"recent": 6}, naive.sirllm(6)),
    ("sirllm", {}, naive.sirllm(1000)),
]


@pytest.mark.parametrize("kv_heads", [1, 2, 6])
@pytest.mark.parametrize(("name", "options", "rule"), RULES)
def test_keeps_what_the_published_rule_keeps(
    name: str, options: dict[str, Any], rule: Callable[..., list[int]], kv_heads: int
) -> None:
    model, ids = tiny_llama(num_key_value_heads=kv_heads), prompt(118, seed=3)  # the last of eight chunks is short
    expected = naive.read(model, ids, naive.Run(rule, chunk=16, size=24))
    cache = read(model, locret.get_policy(name, **options), locret.Budget(24, 16), ids)
    for layer in range(3):
        assert cache.kept_positions(layer)[0].tolist() == expected[layer]


@every_rival
@pytest.mark.parametrize("positions", ["true", "compact"])
@torch.no_grad()
def test_a_padded_row_keeps_what_it_keeps_alone(name: str, positions: str) -> None:
    model = tiny_llama()
    policy = make_policy(name, model)
    budget = locret.Budget(24, 32, stabilizers=3, positions=positions)
    lengths, turns = (1, 12, 30), [prompt(20, seed, rows=3) for seed in (1, 2, 3)]
    rows = [prompt(length, seed=length)[0] for length in lengths]
    ids = torch.stack([torch.cat([torch.zeros(30 - len(row), dtype=torch.long), row]) for row in rows])
    mask = torch.stack([(torch.arange(30) >= 30 - length).long() for length in lengths])
    together = locret.BudgetCache(model, policy=policy, budget=budget)
    model(ids, attention_mask=mask, past_key_values=together)
    for turn in turns:
        mask = torch.cat([mask, torch.ones_like(turn)], dim=-1)
        model(turn, attention_mask=mask, past_key_values=together)
    for row, length in enumerate(lengths):
        alone = locret.BudgetCache(model, policy=policy, budget=budget)
        for piece in (rows[row][None], *(turn[row : row + 1] for turn in turns)):
            model(piece, past_key_values=alone)
        for layer in range(3):
            kept = together.kept_positions(layer)[row] - (30 - length)
            assert torch.equal(kept, alone.kept_positions(layer)[0])
            first, second = together.layers[layer], alone.layers[layer]
            scores = first.scores[row].gather(-1, first.positions[row].argsort())
            expected = second.scores[0].gather(-1, second.positions[0].argsort())
            torch.testing.assert_close(scores, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["h2o", "snapkv", "sirllm"])
def test_the_newest_stay_while_an_answer_is_written(name: str) -> None:
    model = tiny_llama()
    budget = locret.Budget(size=40, chunk=32, local=10, decode_budget=0)
    engine = locret.Engine(model, policy=make_policy(name, model), budget=budget)
    session = engine.generate(engine.prefill(prompt(150)), 70).session
    assert session.cache.stored == 50
    for layer in range(3):  # the pinned window is at least eight
        newest = torch.arange(session.cache.tokens_seen - 8, session.cache.tokens_seen)
        assert torch.equal(session.cache.kept_positions(layer)[0, :, -8:], newest.expand(2, -1))


@pytest.mark.parametrize("name", ["h2o", "tova", "snapkv", "sirllm"])
def test_without_hooks_there_is_nothing_to_score_by(name: str) -> None:
    model = tiny_llama()
    cache = locret.BudgetCache(model, policy=make_policy(name, model), budget=locret.Budget(24, 16))
    locret.detach(model)
    with pytest.raises(locret.LocretError, match=r"hooks are off.*locret\.attach"), torch.no_grad():
        model(prompt(16), past_key_values=cache)
        model(prompt(16), past_key_values=cache)  # SirLLM waits for the end of the first


@pytest.mark.parametrize("at_once", [1, 5, 64])
def test_blocks_of_queries_change_nothing(at_once: int) -> None:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(2, 6, 9, 4, generator=generator)
    positions = torch.arange(-2, 18).expand(2, 2, -1).clone()
    positions[1] += 2  # the second row has no padding
    units = locret.policies.Units(
        0, None, torch.randn(2, 2, 20, 4, generator=generator), positions, torch.zeros(2, 2, 11), lambda n: queries
    )
    expected = torch.zeros(2, 2, 20)
    for row in range(2):
        for head in range(6):
            for query in range(9):
                seen = slice(2 if row == 0 else 0, 12 + query)
                logits = units.keys[row, head // 3, seen] @ queries[row, head, query]
                expected[row, head // 3, seen] += logits.softmax(0) / 3
    torch.testing.assert_close(received_attention(units, at_once=at_once), expected)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("h2o", {"recent": 1.5}, "recent is 1.5"),
        ("snapkv", {"window": 0}, "window is 0"),
        ("snapkv", {"kernel": 4}, "kernel is 4"),
        ("sirllm", {"start": -1}, "start is -1"),
        ("locret_q", {"heads": None, "question": -1}, "question is -1"),
        ("locret_q", {"heads": None, "spread": 0}, "spread is 0"),
    ],
)
def test_bad_options_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(locret.LocretError, match=message):
        locret.get_policy(name, **options)


def test_locret_q_adds_what_the_document_pays_to_the_question() -> None:
    model, ids, question, spread = tiny_llama(), prompt(64), 7, 4
    policy = replace(make_policy("locret_q", model), question=question, spread=spread, weight=0.7)
    cache = read(model, policy, locret.Budget(64, 32), ids)
    plain = read(model, make_policy("locret", model), locret.Budget(64, 32), ids)
    for layer, attention in enumerate(attention_of(model, ids)):
        scores, cis = cache.layers[layer].scores[0], plain.layers[layer].scores[0]
        assert (scores[:, :question] == torch.inf).all()
        paid = attention[..., 1:question].log().amax((1, 3))  # [kv_heads, tokens]
        for begin, end in ((question, 32), (32, 64)):  # the document's tokens of each pass
            lent = torch.stack([paid[:, max(begin, at - spread + 1) : at + 1].amax(1) for at in range(begin, end)], 1)
            z = (lent - lent.mean(1, keepdim=True)) / lent.std(1, correction=0, keepdim=True)
            expected = cis[:, begin:end] + 0.7 * cis[:, begin:end].std(1, correction=0, keepdim=True) * z
            torch.testing.assert_close(scores[:, begin:end], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("changes", [{"weight": 0.0}, {"question": 0}, {"question": 1}])
def test_locret_q_without_weight_or_question_is_locret(changes: dict[str, Any]) -> None:
    model, ids, budget = tiny_llama(), prompt(150), locret.Budget(24, 16, stabilizers=4)
    steered = read(model, replace(make_policy("locret_q", model), **changes), budget, ids)
    plain = read(model, make_policy("locret", model), budget, ids)
    for one, other in zip(steered.layers, plain.layers, strict=True):
        assert torch.equal(one.positions, other.positions) and torch.equal(one.scores, other.scores)


def test_locret_q_keeps_the_question_and_steers() -> None:
    model, ids, budget = tiny_llama(), prompt(150), locret.Budget(24, 16, stabilizers=4)
    steered = read(model, make_policy("locret_q", model), budget, ids)
    plain = read(model, make_policy("locret", model), budget, ids)
    assert all((steered.kept_positions(layer)[..., :5] == torch.arange(5)).all() for layer in range(3))
    assert not torch.equal(steered.kept_positions(2)[..., 5:], plain.kept_positions(2)[..., 5:])


def test_locret_q_refuses_a_budget_without_room_for_the_question() -> None:
    model = tiny_llama()
    policy = replace(make_policy("locret_q", model), question=22)
    with pytest.raises(locret.LocretError, match="no room for the 22 tokens of the question"):
        read(model, policy, locret.Budget(24, 16, stabilizers=4), prompt(60))
