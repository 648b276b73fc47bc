from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

import locret
from locret.plan.kv import Pass, passes_of, turning_passes


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
