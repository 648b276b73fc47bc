"""The presses of kvpress (https://github.com/NVIDIA/kvpress), the one version tested here, on a newer transformers.

kvpress pins a transformers older than ours, which told attention modules a `cache_position`; so does
`supply_cache_position`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import nn

from locret.errors import LocretError
from locret.models.families import attention_modules

TESTED = "0.5.5"
PREFIX = "kvpress:"
INSTALL = f"pip install 'locret[kvpress]' && pip install --no-deps kvpress=={TESTED}"


def load_kvpress() -> Any:
    """The module `kvpress`. Importing it wraps the attention functions of transformers for the whole process.

    Raises:
        LocretError: it is not installed, lacks a package that it imports, or is of a version that was not tested.
    """
    try:
        found = version("kvpress")
        if found != TESTED:
            raise LocretError(f"kvpress {found} was never tried with locret, {TESTED} was: {INSTALL}")
        return import_module("kvpress")
    except PackageNotFoundError:
        raise LocretError(f"kvpress is not installed: {INSTALL}") from None
    except ImportError as error:
        raise LocretError(f"kvpress cannot be imported ({error}): {INSTALL}") from error


@contextmanager
def supply_cache_position(model: nn.Module) -> Iterator[None]:
    """Inside the block presses work on `model`, alone or in kvpress' own pipeline.

    Every attention module is given the keyword `cache_position`, by which kvpress tells reading from decoding and
    which transformers no longer has: where in the cache the new tokens go. A call that has it keeps its own.
    """

    def add(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        cache = kwargs.get("past_key_values")
        if cache is None or "cache_position" in kwargs:
            return None
        stored, new = cache.get_seq_length(module.layer_idx), kwargs["hidden_states"]
        positions = torch.arange(stored, stored + new.shape[1], device=new.device)
        return args, {**kwargs, "cache_position": positions}

    handles = [module.register_forward_pre_hook(add, with_kwargs=True) for module in attention_modules(model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def list_presses() -> list[str]:
    """Presses that are complete with a compression ratio, as against wrappers around others.

    Raises:
        LocretError: kvpress is not installed, or cannot be used.
    """
    kvpress = load_kvpress()
    abstract = (kvpress.BasePress, kvpress.ScorerPress)
    found = {name: getattr(kvpress, name) for name in kvpress.__all__}
    return sorted(name for name, thing in found.items() if thing not in abstract and _takes_a_ratio_alone(thing))


def get_press(name: str) -> Any:
    """The class of a press, which takes `compression_ratio=...`.

    Raises:
        LocretError: kvpress cannot be used, or has no such press; the message lists those it has.
    """
    presses = list_presses()
    if name not in presses:
        raise LocretError(f"unknown press {name!r}: choose one of {', '.join(presses)}")
    return getattr(load_kvpress(), name)


def _takes_a_ratio_alone(thing: Any) -> bool:
    if not (isinstance(thing, type) and issubclass(thing, load_kvpress().BasePress)):
        return False
    parameters = inspect.signature(thing).parameters
    return "compression_ratio" in parameters and all(p.default is not p.empty for p in parameters.values())
