"""Other people's modes: what torch can be set to around us changes nothing, or nothing but precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
from transformers import DynamicCache

import locret
from locret.cache.storage import list_storages
from tests.conftest import make_policy, tiny_llama

TRAINED = {"lococo"}  # these need a merger that was trained for the model
LOSSY = {"fp8", "quant2", "quant4", "quant8"}
IDS = torch.randint(1, 97, (1, 200), generator=torch.Generator().manual_seed(3))


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


MODES: dict[str, Any] = {
    "inference": torch.inference_mode,
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "another device": lambda: torch.device("meta"),  # on which everything fails at the first look
}


def engine_of(model: Any, name: str, positions: str, storage: str = "dense") -> locret.Engine:
    budget = locret.Budget(size=64, chunk=32, stabilizers=8, local=8, positions=positions)
    return locret.Engine(model, policy=make_policy(name, model), budget=budget, storage=storage)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("positions", ["true", "compact"])
@pytest.mark.parametrize("name", locret.list_policies())
def test_the_same_inside_and_behind_it(name: str, positions: str, mode: str) -> None:
    engine = engine_of(tiny_llama(), name, positions)
    expected = engine.prefill(IDS)
    with MODES[mode]():
        session = engine.prefill(IDS)
        inside = engine.generate(session, 5).token_ids
    assert torch.equal(session.logits, expected.logits)
    assert inside == engine.generate(session, 5).token_ids == engine.generate(expected, 5).token_ids


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def autocast() -> AbstractContextManager[Any]:
    return torch.autocast("cpu", dtype=torch.bfloat16)


@pytest.mark.parametrize("attention", ["split", "masked", "eager"])
@pytest.mark.parametrize("storage", sorted(set(list_storages()) - TRAINED - LOSSY))
def test_autocast_costs_no_more_than_it_costs_transformers(storage: str, attention: str) -> None:
    model = tiny_llama()
    budget = locret.Budget(size=512, chunk=32, local=8)
    engine = locret.Engine(model, policy=locret.get_policy("full"), budget=budget, storage=storage, attention=attention)
    with torch.no_grad():
        exact = model(IDS, past_key_values=DynamicCache(config=model.config)).logits[0, -1]
        with autocast():
            plain = model(IDS, past_key_values=DynamicCache(config=model.config)).logits[0, -1].float()
            session = engine.prefill(IDS)
            inside = engine.generate(session, 3).token_ids
    assert error(session.logits, exact) < 2 * error(plain, exact)
    assert engine.generate(session, 3).token_ids == inside  # what was read under it goes on without


@pytest.mark.parametrize("positions", ["true", "compact"])
@pytest.mark.parametrize("storage", ["dense", "quant4"])
@pytest.mark.parametrize("name", locret.list_policies())
def test_every_policy_runs_under_autocast(name: str, storage: str, positions: str) -> None:
    engine = engine_of(tiny_llama(), name, positions, storage)
    with autocast():
        session = engine.prefill(IDS)
        result = engine.generate(session, 3)
    assert session.logits.isfinite().all()
    if engine.policy.evicts:
        assert session.cache.stored == 72
    engine.generate(result.session, 3)


@pytest.mark.parametrize("name", ["full", "locret", "h2o", "sirllm"])
def test_a_compiled_model_keeps_the_same_units(name: str) -> None:
    model = tiny_llama()
    policy, budget = make_policy(name, model), locret.Budget(size=40, chunk=32, stabilizers=8, local=8)
    caches = [locret.BudgetCache(model, policy=policy, budget=budget) for _ in range(2)]
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        plain, found = (
            each(IDS[:, :100], past_key_values=cache, logits_to_keep=1).logits
            for each, cache in zip((model, compiled), caches, strict=True)
        )
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4)
    assert torch.equal(*(cache.kept_positions(1) for cache in caches))
