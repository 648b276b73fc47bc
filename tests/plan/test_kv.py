from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import locret
from locret.plan.kv import Pass, passes_of, turning_passes, unit_bytes


@given(
    length=st.integers(1, 400), size=st.integers(20, 150), chunk=st.integers(1, 90), local=st.integers(0, 20),
    evicts=st.booleans(),
)  # fmt: skip
def test_the_passes_that_turn_are_the_largest_of_all(
    length: int, size: int, chunk: int, local: int, evicts: bool
) -> None:
    budget = locret.Budget(size=size, chunk=chunk, local=local)
    every, few = passes_of(length, budget, evicts), turning_passes(length, budget, evicts)
    assert set(few) <= set(every)
    assert few[-1] == every[-1]

    def largest(passes: list[Pass]) -> dict[tuple[int, bool, bool], tuple[int, int]]:
        found: dict[tuple[int, bool, bool], tuple[int, int]] = {}
        for one in passes:
            kind = (one.new, one.cuts, one.gaps)
            found[kind] = max(found.get(kind, (0, 0)), (one.stored, one.kept))
        return found

    assert largest(few) == largest(every)
    assert sum(one.new for one in every) == length


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_dense_unit_is_its_key_and_value(dtype: torch.dtype) -> None:
    unit = unit_bytes(96, dtype)
    assert unit.exact
    assert unit.of(10) == unit.of(10, fresh=3) == 10 * 2 * 96 * dtype.itemsize


@pytest.mark.parametrize(("storage", "bits"), [("quant8", 8), ("quant4", 4), ("quant2", 2), ("fp8", 8)])
def test_a_packed_unit_has_codes_and_ranges(storage: str, bits: int) -> None:
    unit = unit_bytes(128, torch.bfloat16, storage)
    codes = 2 * 128 * bits / 8
    assert codes < unit.packed <= codes + 64
    assert unit.recent == 128
    assert unit.of(1000) == 128 * 512 + 872 * unit.packed
    assert unit.of(1000, fresh=100) == 228 * 512 + 772 * unit.packed
