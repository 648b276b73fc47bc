from __future__ import annotations

import pytest

import locret
from locret.plan import estimate, fits, largest_budget, longest_prompt, setting_of
from locret.plan.memory import machine_memory, parse_memory
from tests.plan.cases import BUDGET, WIDTH, wider

LENGTH = 3000


def make(size: int) -> locret.Budget:
    return locret.Budget(size=size, chunk=128, stabilizers=min(32, size // 2), local=min(20, size // 4))


@pytest.mark.parametrize("size", [1, 7, 160, 2500])
def test_the_largest_budget_is_the_last_that_fits(size: int) -> None:
    setting = setting_of(wider("llama").config, width=WIDTH)
    needed = estimate(setting, LENGTH, make(size))
    memory = needed.total + needed.reserve
    largest = largest_budget(setting, LENGTH, make, memory)
    assert largest >= size
    assert fits(setting, LENGTH, make(largest), memory)
    assert not fits(setting, LENGTH, make(largest + 1), memory)


def test_a_budget_of_the_whole_prompt_cuts_nothing() -> None:
    setting = setting_of(wider("llama").config, width=WIDTH)
    needed = estimate(setting, LENGTH, make(LENGTH))
    assert largest_budget(setting, LENGTH, make, needed.total + needed.reserve) == LENGTH


def test_nothing_fits_nothing() -> None:
    setting = setting_of(wider("llama").config, width=WIDTH, cuda=False)
    assert largest_budget(setting, LENGTH, make, 1000) == 0
    assert longest_prompt(setting_of(wider("llama").config, policy="full"), BUDGET, 1000) == 0


def test_a_budget_has_room_for_its_fixed_parts() -> None:
    setting = setting_of(wider("llama").config, width=WIDTH, cuda=False)
    needed = estimate(setting, LENGTH, BUDGET)
    memory = needed.total + needed.reserve
    with_parts = lambda size: locret.Budget(size=size, chunk=128, stabilizers=32, local=20)  # noqa: E731
    assert largest_budget(setting, LENGTH, with_parts, memory, least=52) >= BUDGET.size
    assert largest_budget(setting, LENGTH, with_parts, 1000, least=52) == 0


def test_the_longest_prompt_is_the_last_that_fits() -> None:
    setting = setting_of(wider("llama").config, policy="full", cuda=False)
    needed = estimate(setting, LENGTH, BUDGET)
    memory = needed.total + needed.reserve
    longest = longest_prompt(setting, BUDGET, memory)
    assert longest >= LENGTH
    assert not fits(setting, longest + 1, BUDGET, memory)


@pytest.mark.parametrize(
    ("text", "count"),
    [("24GB", 24 * 10**9), ("16 GiB", 16 * 2**30), ("1.5g", 1.5 * 10**9), ("512MB", 512 * 10**6), ("8e9", 8 * 10**9)],
)
def test_amounts_of_memory(text: str, count: float) -> None:
    assert parse_memory(text) == count


@pytest.mark.parametrize(
    "text", ["", "GB", "24XB", "-1GB", "0", "1.2.3GB", "24 GB or so", "1e400GB", "1e30TB", "nan", "infGB"]
)
def test_bad_amounts_are_named(text: str) -> None:
    with pytest.raises(locret.LocretError, match="give a number and a unit, such as 24GB"):
        parse_memory(text)


def test_this_machine_has_memory() -> None:
    assert machine_memory(cuda=False) > 10**8


def test_memory_of_a_device_that_is_not_here_has_to_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(locret.LocretError, match="sees no CUDA device here: give its --memory"):
        machine_memory(cuda=True)
