"""Layers that are cut together keep what they keep alone; in which passes they wait, and what is held for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import locret
from locret.cache import cuts
from locret.cache.cuts import BYTES_A_SCORE, at_once
from tests.conftest import make_policy, tiny_llama

BUDGET = locret.Budget(size=40, chunk=32, stabilizers=8, local=10)
LAYERS = 5


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_llama(num_hidden_layers=LAYERS, head_dim=16)


def prompt(length: int) -> torch.Tensor:
    return torch.randint(97, (1, length), generator=torch.Generator().manual_seed(length))


def fresh(model: Any, policy: str = "locret", budget: locret.Budget = BUDGET) -> locret.BudgetCache:
    return locret.BudgetCache(model, policy=make_policy(policy, model), budget=budget)


@torch.no_grad()
def read(model: Any, cache: locret.BudgetCache, length: int = 150) -> locret.BudgetCache:
    cache.begin_turn(length)
    model(prompt(length), past_key_values=cache)
    return cache


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many layers were chosen for at once, each time."""
    seen: list[int] = []
    whole = cuts.keep_mask

    def counted(scores: torch.Tensor, *others: Any) -> torch.Tensor:
        seen.append(len(scores))
        return whole(scores, *others)

    monkeypatch.setattr(cuts, "keep_mask", counted)
    return seen


@pytest.mark.parametrize("policy", ["locret", "locret_q", "random", "streaming_llm", "h2o", "tova", "sirllm"])
@pytest.mark.parametrize("most", [1, 2, 3, 100])
def test_layers_keep_together_what_they_keep_alone(
    model: Any, policy: str, most: int, groups: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for at_most in (1, most):
        monkeypatch.setattr(cuts, "at_once", lambda layer, at_most=at_most: at_most)
        groups.clear()
        cache = read(model, fresh(model, policy))
        assert max(groups) == min(at_most, LAYERS)
        assert sum(groups) % LAYERS == 0
        assert not cache.reading.cuts.layers
        found.append(
            [(cache.kept_positions(i), cache.layers[i].scores, *cache.layers[i].read()) for i in range(LAYERS)]
        )
    for alone, together in zip(*found, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


@pytest.mark.parametrize("size, chunk", [(40, 32), (300, 8), (300, 64), (2048, 1024)])
def test_a_choice_takes_no_more_than_the_units_of_a_chunk(model: Any, size: int, chunk: int) -> None:
    cache = read(model, fresh(model, budget=locret.Budget(size=size, chunk=chunk)), 100)
    layer = cache.layers[0]
    units = 2 * layer.storage.read()[0].shape[1] * 16 * 4 * chunk
    together = at_once(layer)
    assert together == 1 or together * layer.scores.numel() * BYTES_A_SCORE <= units
    assert (together + 1) * layer.scores.numel() * BYTES_A_SCORE > units


def test_a_pass_that_is_broken_off_leaves_no_layer_waiting(model: Any) -> None:
    cache = fresh(model)
    read(model, cache, 60)

    def fail(*_: Any) -> None:
        raise RuntimeError("switched off")

    handle = model.model.layers[3].register_forward_pre_hook(fail)
    try:
        with pytest.raises(RuntimeError, match="switched off"):
            read(model, cache, 60)
    finally:
        handle.remove()
    with pytest.raises(locret.LocretError, match="broken off"):
        read(model, cache, 60)
    cache.reset()
    assert not cache.reading.cuts.layers
    assert not cache.reading.cuts.gathers
    read(model, cache, 60)
    assert cache.layers[0].storage.units <= BUDGET.size + BUDGET.chunk


def test_a_fork_waits_for_itself(model: Any) -> None:
    cache = read(model, fresh(model))
    assert cache.fork().reading.cuts is not cache.reading.cuts


def test_layers_of_other_shapes_or_budgets_are_cut_apart(model: Any, groups: list[int]) -> None:
    cache = read(model, fresh(model, budget=locret.Budget(size=60, chunk=32)), 60)
    groups.clear()
    cache.reading.cuts.begin()
    cache.layers[0].cut(40, 8)
    cache.layers[1].cut(40, 8)
    cache.layers[2].cut(30, 8)
    cache.layers[3].cut(30, 4)
    cache.reading.cuts.end()
    assert groups == [2, 1, 1]
    assert [layer.storage.units for layer in cache.layers] == [40, 40, 30, 30, 60]


class Arrives:
    """A look at scores that notes when it is waited for."""

    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name

    def check(self) -> None:
        self.log.append(self.name)


def test_looks_are_waited_for_one_pass_later_while_the_prompt_goes_on() -> None:
    log: list[str] = []
    waiting = cuts.Cuts()
    for name, more, seen in (("a", True, []), ("b", True, ["a"]), ("c", False, ["a", "b", "c"])):
        waiting.begin()
        waiting.looks.append(Arrives(log, name))  # type: ignore[arg-type]
        waiting.end(more)
        assert log == seen
    assert not waiting.looks


@pytest.mark.parametrize("length, expected", [(150, [True] * 5 + [False]), (None, [False] * 6)])
def test_the_last_pass_of_a_prompt_waits_for_all(
    model: Any, length: int | None, expected: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[bool] = []
    whole = cuts.Cuts.end

    def end(self: cuts.Cuts, more: bool = False) -> None:
        found.append(more)
        whole(self, more)

    monkeypatch.setattr(cuts.Cuts, "end", end)
    cache = locret.BudgetCache(model, policy=make_policy("locret", model), budget=BUDGET, prompt_length=length)
    with torch.no_grad():
        for part in prompt(150).split([32, 32, 32, 32, 12, 10], dim=1):
            model(part, past_key_values=cache)
    assert found == expected
