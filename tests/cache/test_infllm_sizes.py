"""InfLLM's sizes under a budget."""

from __future__ import annotations

import pytest

from locret.cache.infllm_sizes import Sizes
from locret.errors import LocretError

PAPER = Sizes()


@pytest.mark.parametrize("units", [49, 50, 63, 64, 127, 128, 256, 300, 1000, 1024, 4096, 6000, 6399, 20000, 131072])
def test_all_that_a_pass_sees_is_the_budget(units: int) -> None:
    sizes = Sizes.within(units)
    assert sizes.visible == units
    assert 4 <= sizes.init <= PAPER.init
    assert sizes.block in (16, 32, 64, 128)
    assert sizes.local >= units // 4
    recalled = sizes.top * sizes.block / units
    assert recalled <= 16 / 49
    assert recalled > 16 / 49 - sizes.block / units


def test_with_the_papers_room_it_is_the_papers() -> None:
    assert Sizes.within(PAPER.visible) == PAPER


@pytest.mark.parametrize("units", [1, 16, 48])
def test_too_few_units_are_refused(units: int) -> None:
    with pytest.raises(LocretError, match=f"a budget of {units} has no room for them all: give at least 49"):
        Sizes.within(units)
