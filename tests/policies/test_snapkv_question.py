"""SnapKV whose window is the question before the document."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import locret
from locret.policies import QueryAware, SnapKV
from tests.conftest import tiny_llama

QUESTION = 6


def prompt(length: int) -> Tensor:
    return torch.randint(1, 97, (1, length), generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def read(model: Any, policy: Any, budget: locret.Budget, ids: Tensor) -> locret.BudgetCache:
    cache = locret.BudgetCache(model, policy=policy, budget=budget)
    for piece in ids.split(budget.chunk, dim=1):
        model(piece, past_key_values=cache)
    return cache


def naive_scores(keys: Tensor, queries: Tensor) -> list[list[float]]:
    """Softmax of every query over all keys, the mean of queries and group, the mean of five neighbours.

    Keys [kv_heads, units, head_dim], queries [q_heads, question, head_dim].
    """
    group, scores = len(queries) // len(keys), []
    for head, own in enumerate(keys):
        mean = torch.zeros(len(own))
        for query in queries[head * group : (head + 1) * group].flatten(0, 1):
            mean += torch.softmax(own @ query, dim=0) / (group * queries.shape[1])
        around = [0.0, 0.0, *mean[QUESTION:].tolist(), 0.0, 0.0]  # what the question gives itself is left out
        scores.append([sum(around[at : at + 5]) / 5 for at in range(len(own) - QUESTION)])
    return scores


@pytest.mark.parametrize("positions", ["true", "compact"])
@pytest.mark.parametrize("size", [96, 40])  # nothing is evicted; most of it is
def test_scores_are_the_attention_of_the_question_asked_again(
    monkeypatch: pytest.MonkeyPatch, size: int, positions: str
) -> None:
    model, seen = tiny_llama(), []
    score = SnapKV.score

    def spy(self: SnapKV, units: Any) -> Tensor:
        scores = score(self, units)
        seen.append((units.keys[0].clone(), units.asked[0], scores))  # a storage may write over its keys
        return scores

    monkeypatch.setattr(SnapKV, "score", spy)
    budget = locret.Budget(size, 32, positions=positions)  # type: ignore[arg-type]
    read(model, SnapKV(window=4, question=QUESTION), budget, prompt(96))
    assert len(seen) == 9  # three layers, three passes
    for keys, asked, scores in seen:
        expected = torch.tensor(naive_scores(keys, asked))
        torch.testing.assert_close(scores[0, :, QUESTION:], expected, rtol=1e-4, atol=1e-7)
        assert (scores[0, :, :QUESTION] == torch.inf).all()


def test_a_document_that_holds_the_question_finds_it() -> None:
    """With the question's queries a kept set follows the question; with the chunk's tail it does not."""
    model, ids, budget = tiny_llama(), prompt(120), locret.Budget(24, 40)
    steered = read(model, SnapKV(window=4, question=QUESTION), budget, ids)
    blind = read(model, SnapKV(window=4), budget, ids)
    newest = torch.arange(116, 120)
    for layer in range(3):
        assert (steered.kept_positions(layer)[0, :, :QUESTION] == torch.arange(QUESTION)).all()
        assert (blind.kept_positions(layer)[0, :, -4:] == newest).all()
    pinned = [steered.kept_positions(layer)[0, head, -4:].tolist() for layer in range(3) for head in range(2)]
    assert any(kept != newest.tolist() for kept in pinned)  # the chunk's tail is nothing special


def test_it_is_told_of_the_question() -> None:
    policy = SnapKV(window=9)
    assert isinstance(policy, QueryAware)
    assert policy.asked(5) == SnapKV(window=9, question=5)
    with pytest.raises(locret.LocretError, match="question is -1"):
        SnapKV(question=-1)


def test_a_session_with_a_question_in_front() -> None:
    model = tiny_llama()
    engine = locret.Engine(model, policy=SnapKV(window=4), budget=locret.Budget(24, 16, stabilizers=4, local=4))
    session = engine.prefill(prompt(100), question_tokens=QUESTION)
    assert (session.cache.kept_positions(0)[0, :, :QUESTION] == torch.arange(QUESTION)).all()
    first, second = (engine.generate(engine.prefill(prompt(9), session), 4).token_ids for _ in range(2))
    assert first == second
