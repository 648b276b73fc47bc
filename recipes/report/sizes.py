"""How many units a method can keep in so many bytes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor

from locret.cache.storage import Storage, get_storage
from locret.engine import parse
from locret.eval.grid import BudgetRule
from locret.models.loading import load_builtin

WHOLE = "full"


def units_for(method: str, goal: str, length: int) -> int:
    """The largest budget with which `method` holds no more bytes than `goal` says.

    Args:
        method: one whose policy evicts.
        goal: "1/16", that part of a dense cache of everything; or a method that keeps everything ("quant4").
        length: tokens of the document.
    """
    target = held(goal, length, length) if goal[0].isalpha() else held(WHOLE, length, length) * Fraction(goal)
    low, high = 1, length - 1
    while low < high:  # bytes grow with units
        middle = (low + high + 1) // 2
        low, high = (middle, high) if held(method, middle, length) <= target else (low, middle - 1)
    return low


@functools.cache
def held(method: str, size: int, length: int) -> int:
    """Bytes of one KV head after reading `length` tokens, local tail and all, as the method's storage counts them."""
    budget = BudgetRule().budget(size, length)
    named = parse(method)
    sized = named.sized_storage(budget)
    make: Callable[[], Storage] = get_storage(sized) if isinstance(sized, str) else sized
    body = min(size, length - budget.local)
    storage = make().append(*_units(body))
    if named.evicts:
        storage = storage.gather(torch.arange(body).expand(1, 1, -1))
    return storage.append(*_units(budget.local)).nbytes


def _units(count: int) -> tuple[Tensor, Tensor]:
    keys = torch.zeros(1, 1, count, _head_dim())
    return keys, keys


@functools.cache
def _head_dim() -> int:
    model, _, _ = load_builtin()
    return int(model.config.head_dim)
