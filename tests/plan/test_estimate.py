from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import locret
from locret.plan import estimate, setting_of
from locret.policies import list_policies
from tests.conftest import TINY_MODELS
from tests.plan.cases import BUDGET, LENGTH, NARROW, WIDTH, Run, read, wider


def check(run: Run, tolerance: float = 0.05) -> None:
    assert run.kv == run.estimate.kv
    assert run.estimated_tensors == pytest.approx(run.tensors, rel=tolerance)


@pytest.mark.parametrize("family", TINY_MODELS)
@pytest.mark.parametrize("budget", [BUDGET, NARROW], ids=["wide", "narrow"])
def test_the_estimate_is_what_reading_takes(family: str, budget: locret.Budget) -> None:
    check(read(wider(family), budget=budget))


@pytest.mark.parametrize("positions", ["true", "compact"])
def test_new_tensors_for_every_change_are_counted(positions: str) -> None:
    budget = replace(BUDGET, positions=positions)
    fresh, static = (read(wider("llama"), budget=budget, storage=name) for name in ("dynamic", "dense"))
    check(fresh)
    assert fresh.tensors < static.tensors  # a chunk in every layer is more here than a second copy of one layer


def test_buffers_save_a_copy_of_one_layer() -> None:
    model, budget = wider("llama", num_hidden_layers=2), locret.Budget(size=1500, chunk=64, stabilizers=16, local=20)
    fresh, static = (read(model, budget=budget, storage=name, length=1800) for name in ("dynamic", "dense"))
    check(fresh)
    check(static)
    assert static.tensors < fresh.tensors


@pytest.mark.parametrize("policy", sorted({*list_policies()} - {"locret"}))
def test_every_policy_is_counted(policy: str) -> None:
    check(read(wider("llama", vocab_size=3000), policy))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_compact_positions_move_keys(family: str, dtype: torch.dtype) -> None:
    check(read(wider(family, dtype), budget=replace(BUDGET, positions="compact")))


@pytest.mark.parametrize("positions", ["true", "compact"])
@pytest.mark.parametrize("storage", ["quant8", "quant4", "quant2"])
def test_packed_storages_are_decoded(storage: str, positions: str) -> None:
    budget = replace(BUDGET, size=400, positions=positions)
    run = read(wider("llama", torch.bfloat16), budget=budget, length=1200, storage=storage)
    # How many of the newest units stay unpacked depends on what the last cut kept, at most as many as estimated.
    assert 0.7 * run.estimate.kv <= run.kv <= run.estimate.kv
    assert run.estimated_tensors == pytest.approx(run.tensors, rel=0.12)


@pytest.mark.parametrize("length", [10, 100, 180])
def test_short_prompts_are_not_cut(length: int) -> None:
    run = read(wider("llama"), length=length)
    assert run.kv == run.estimate.kv == run.estimate.full_kv
    assert run.estimated_tensors == pytest.approx(run.tensors, rel=0.08)


def test_the_published_figures() -> None:
    def gib(name: str, size: int, chunk: int) -> tuple[float, float]:
        from locret.plan import find_config

        budget = locret.Budget(size=size, chunk=chunk, stabilizers=2500, local=100)
        needed = estimate(setting_of(find_config(name)), 131072, budget)
        return needed.full_kv / 2**30, needed.kv / 2**30

    full, kept = gib("llama-3.1-8b", 16384, 1024)
    assert full == 16.0
    assert kept == pytest.approx(2.0, abs=0.05)
    full, kept = gib("phi-3-mini-128k", 6000, 3072)
    assert full == 48.0
    assert kept == pytest.approx(2.2, abs=0.05)


def test_memory_does_not_grow_with_the_prompt() -> None:
    setting = setting_of(wider("llama").config, width=WIDTH)
    needed = [estimate(setting, length, BUDGET) for length in (10_000, 1_000_000)]
    assert needed[0].total == needed[1].total
    assert needed[1].full_kv == 100 * needed[0].full_kv


def test_terms_and_parts_add_up() -> None:
    needed = estimate(setting_of(wider("phi3").config, width=WIDTH), LENGTH, BUDGET)
    assert needed.total == needed.weights + needed.kv + needed.activations
    assert needed.total == needed.weights + needed.heads + needed.bookkeeping + sum(needed.terms.values())
