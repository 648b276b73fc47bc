"""Bytes of every registered storage, as a plan and as a session tells them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import locret
from locret.cache import make_lococo
from locret.cache.storage import list_storages
from locret.plan import estimate, setting_of
from locret.plan.storages import unit_bytes
from tests.cache.test_convolved import trained
from tests.plan.cases import WIDTH, Run, read, wider

KEEPS_ALL = {"infllm": 5200}  # with a length at which there are blocks, and more of them than a pass sees
# Units that are a block, or part of one, by where the latest eviction happened to fall.
BLOCK = {"recall": 128, "infllm": 128, "quant2": 128, "quant4": 128, "quant8": 128, "fp8": 128}
BUDGET = locret.Budget(size=400, chunk=128, stabilizers=32, local=20)


def run(storage: str, length: int = 1500, positions: str = "true") -> Run:
    model = wider("llama", max_position_embeddings=8192)
    policy = "full" if storage in KEEPS_ALL else "streaming_llm"
    budget = locret.Budget(size=400, chunk=512 if storage in KEEPS_ALL else 128, stabilizers=32, local=20,
                           positions=positions)  # fmt: skip
    maker = make_lococo(trained(model)) if storage == "lococo" else None
    return read(model, policy, budget, KEEPS_ALL.get(storage, length), storage, maker)


def host_bytes(found: Run) -> int:
    """Bytes of the pieces that a session has in host memory."""
    pieces: list[Any] = []
    for layer in found.session.cache.layers:
        storage = layer.storage
        pieces += [*getattr(storage, "pieces", ()), *getattr(getattr(storage, "blocks", None), "pieces", ())]
    return sum(piece.nbytes for piece in pieces if piece.device is not None)


@pytest.mark.parametrize("storage", list_storages())
def test_a_plan_tells_what_a_session_holds(storage: str) -> None:
    found = run(storage)
    needed, session = found.estimate, found.session
    slack = BLOCK.get(storage, 0) * 3 * 2 * (needed.full_kv // (3 * 2 * session.tokens_seen) + 8)
    assert abs(needed.kv - found.kv) <= slack
    assert needed.offloaded == session.cache.offloaded_bytes  # on the CPU the host is the device
    assert (needed.offloaded > 0) == (storage == "disk")
    if not storage.startswith("merge") and storage != "lococo":  # what merging works with is not counted
        assert found.estimated_tensors + host_bytes(found) >= 0.9 * found.tensors - slack


@pytest.mark.parametrize("storage", ["offloaded", "disk", "recall", "infllm"])
def test_on_a_device_the_host_is_elsewhere(storage: str) -> None:
    found = run(storage)
    policy = f"{'full' if storage in KEEPS_ALL else 'streaming_llm'}+{storage}"
    setting = setting_of(wider("llama").config, dtype="float32", policy=policy, width=WIDTH, cuda=True)
    budget = found.session.cache.budget
    needed = estimate(setting, found.session.tokens_seen, budget)
    away = host_bytes(found) + found.session.cache.offloaded_bytes
    slack = BLOCK.get(storage, 0) * 3 * 2 * (needed.full_kv // (3 * 2 * found.session.tokens_seen))
    assert away > 0
    assert abs(needed.offloaded - away) <= slack
    assert needed.total == needed.weights + needed.kv - needed.offloaded + needed.activations


def test_what_is_elsewhere_grows_and_what_is_on_the_device_does_not() -> None:
    config = wider("llama").config
    for policy, grows in (("locret+offloaded", 0), ("locret+disk", 0), ("streaming_llm+recall", 1), ("full+disk", 1)):
        setting = setting_of(config, policy=policy, width=WIDTH)
        short, long = (estimate(setting, length, BUDGET) for length in (16_384, 131_072))
        assert short.offloaded > 0
        assert (long.offloaded > 4 * short.offloaded) == bool(grows)
        if not grows:
            assert long.total == short.total
            assert long.kv == short.kv
        if policy == "streaming_llm+recall":  # the index is on the device
            index = round(3 * 2 * setting.unit.gone * (131_072 - 16_384))
            assert long.total - short.total == pytest.approx(index, rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_dense_unit_is_its_key_and_value(dtype: torch.dtype) -> None:
    unit = unit_bytes(96, dtype)
    assert unit.exact
    assert unit.of(10) == unit.of(10, fresh=3) == 10 * 2 * 96 * dtype.itemsize
    assert unit.away(10) == 0
    assert unit.shown(10, 5) == 10


@pytest.mark.parametrize(("storage", "bits"), [("quant8", 8), ("quant4", 4), ("quant2", 2), ("fp8", 8)])
def test_a_packed_unit_has_codes_and_ranges(storage: str, bits: int) -> None:
    unit = unit_bytes(128, torch.bfloat16, storage)
    codes = 2 * 128 * bits / 8
    assert codes < unit.packed <= codes + 64
    assert unit.recent == 128
    assert unit.coded and not unit.exact
    assert unit.of(1000) == 128 * 512 + 872 * unit.packed
    assert unit.of(1000, fresh=100) == 228 * 512 + 772 * unit.packed


def test_merging_storages_hold_a_little_more_and_copy_nothing() -> None:
    for storage, extra in (("merge_v", 4), ("merge_kv", 4), ("lococo", 1)):
        unit = unit_bytes(128, torch.bfloat16, storage)
        assert unit.exact and not unit.coded
        assert unit.of(1000, evicted=5000) == 1000 * (512 + extra)


def test_recalled_units_are_elsewhere_and_their_index_is_not() -> None:
    unit = unit_bytes(128, torch.bfloat16, "recall")
    assert unit.of(100, evicted=0) == 100 * 512
    assert unit.gone_elsewhere == 512
    assert 64 < unit.gone < 80  # keys in 4 bits with their ranges
    assert unit.shown(100, 10_000) == 100 + 16 * 128
    unit = unit_bytes(128, torch.bfloat16, "infllm")
    assert unit.elsewhere == 512
    assert unit.packed < 16
    assert 128 + 4096 <= unit.recent < 128 + 4096 + 128
    assert unit.shown(100_000) <= 128 + 4096 + 17 * 128


@pytest.mark.parametrize("storage", ["offloaded", "disk"])
def test_offloaded_units_come_as_a_copy(storage: str) -> None:
    unit = unit_bytes(128, torch.bfloat16, storage)
    assert not unit.exact and not unit.coded
    assert (unit.of(1000), unit.away(1000)) == (0, 1000 * 512)
    assert (unit.of(1000, fresh=100), unit.away(1000, fresh=100)) == (100 * 512, 900 * 512)


def test_sizes_go_by_a_budget_that_was_chosen() -> None:
    config, budget = wider("llama").config, locret.Budget(size=640, chunk=128)
    own, sized = (setting_of(config, policy="infllm", budget=chosen).unit for chosen in (None, budget))
    assert own.most is not None and sized.most is not None
    assert own.most > 4096 and 500 < sized.most <= 640 + 1
    assert sized.recent < own.recent / 5
    assert setting_of(config, policy="quant4", budget=budget).unit == setting_of(config, policy="quant4").unit
