"""Answers: what a setting is for a model, what fits a memory, and how much of it a budget or a prompt may take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from locret.cache.budget import LONGEST, Budget
from locret.engine.methods import NEUTRAL, parse
from locret.errors import LocretError
from locret.models.loading import DTYPES, auto_dtype
from locret.models.quantisation import BITS as PACKED_BITS
from locret.plan.estimate import Setting, estimate
from locret.plan.sizes import sizes_of
from locret.plan.storages import DENSE, unit_bytes

BITS = {8: "quant8", 4: "quant4", 2: "quant2"}  # storages that hold units in fewer bits
MakeBudget = Callable[[int], Budget]


def setting_of(
    config: Any,
    *,
    dtype: str = "auto",
    kv_bits: int | None = None,
    weight_bits: int | None = None,
    policy: str = "locret",
    width: int = 1024,
    cuda: bool = True,
    budget: Budget | None = None,
) -> Setting:
    """How a model is run.

    Args:
        config: its transformers configuration.
        dtype: auto (as the configuration says; see `auto_dtype`), float32, bfloat16 or float16.
        kv_bits: bits of a stored key or value; None for those of the dtype.
        weight_bits: bits of a weight; None for those of the dtype.
        policy: what is kept and how it is held, as a method: "locret", "locret+quant4", "infllm" (without eviction).
        width: hidden width of the retaining heads.
        cuda: on a CUDA device, not on the CPU.
        budget: one that the user chose, for storages whose sizes go by it (`infllm`); None for their own.

    Raises:
        LocretError: the family is not supported, or a name or a number of bits is not known.
    """
    if dtype not in DTYPES:
        raise LocretError(f"dtype is {dtype!r}: choose one of {', '.join(DTYPES)}")
    precision: Any = auto_dtype(config, cuda) if dtype == "auto" else DTYPES[dtype]
    own = precision.itemsize * 8
    method = parse(policy)
    storage = _storage(kv_bits, own) if method.storage == DENSE else method.storage
    maker = storage if budget is None else replace(method, storage=storage).sized_storage(budget)
    if kv_bits is not None and method.storage != DENSE:
        raise LocretError(f"policy {policy!r} has bits of its own: give it without KV bits")
    if method.attention != NEUTRAL["attention"]:
        raise LocretError(
            f"what attention {method.attention!r} takes depends on the prompt and cannot be told beforehand: leave it "
            f"out of policy {policy!r}"
        )
    if weight_bits not in (None, own, *PACKED_BITS):
        raise LocretError(f"weight bits are {weight_bits}: choose {own} (the dtype) or {_listed(PACKED_BITS)}")
    sizes = sizes_of(config)
    return Setting(
        sizes=sizes,
        element=precision.itemsize,
        unit=unit_bytes(sizes.shapes.head_dim, precision, maker, cuda),
        weight_bits=weight_bits if weight_bits in PACKED_BITS else None,
        policy=method.policy,
        width=width,
        cuda=cuda,
    )


def largest_budget(setting: Setting, length: int, make: MakeBudget, memory: int, least: int = 1) -> int:
    """The largest budget size that fits `memory` bytes; `length` if nothing has to be evicted, 0 if nothing fits.

    Args:
        setting: how the model is run, with a policy that evicts.
        length: tokens of the prompt.
        make: the budget of a size; everything else about it is settled.
        memory: bytes.
        least: the smallest size that makes a budget.
    """
    if fits(setting, length, make(max(length, least)), memory):  # to keep everything may be less than to cut a little
        return length
    found = _largest(lambda size: size < least or fits(setting, length, make(size), memory), max(length, least) - 1)
    return min(found, length) if found >= least else 0


def longest_prompt(setting: Setting, budget: Budget, memory: int) -> int:
    """The longest prompt that fits `memory` bytes, in tokens. With a policy that evicts there is no such length."""
    return _largest(lambda length: fits(setting, length, budget, memory), LONGEST)


def fits(setting: Setting, length: int, budget: Budget, memory: int) -> bool:
    """Whether reading a prompt takes at most `memory` bytes, with what the process needs beside its tensors."""
    needed = estimate(setting, length, budget)
    return needed.total + needed.reserve <= memory


def _storage(bits: int | None, own: int) -> str:
    """The storage that holds numbers of so many bits."""
    if bits is None or bits == own:
        return DENSE
    if bits not in BITS:
        raise LocretError(f"KV bits are {bits}: choose {own} (the dtype) or {_listed(BITS)}")
    return BITS[bits]


def _listed(numbers: Any) -> str:
    return ", ".join(str(number) for number in sorted(numbers))


def _largest(good: Callable[[int], bool], limit: int) -> int:
    """The largest number from 1 to `limit` that is good, where all below a good one are good; 0 for none."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if good(middle) else (low, middle - 1)
    return low
