"""Choosing the attention function of a model for the length of a block, in one thread.

A model's modules and mask functions read the name of their attention off a configuration that all threads share. So
while any thread has chosen something, that name is `locret`: a function which asks what the thread that calls it has
chosen, and falls back to what the model had. Threads with other choices, or none, do not notice.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from locret.errors import LocretError
from locret.models.families import text_config
from locret.registry import Registry

NAME = "locret"  # what a configuration names while a thread has chosen

attentions: Registry[str] = Registry("attention")
attentions.register("masked")("sdpa")
attentions.register("eager")("eager")

in_order: set[str] = set()  # attentions that take a key's place among the stored ones for its position


def list_attentions() -> list[str]:
    """Names of all registered attentions."""
    return attentions.names()


def check_attention(name: str | None, evicts: bool, chooses: bool = False, positions: str = "true") -> None:
    """Refuse an attention that has to see every unit at its place with anything that takes units away.

    Args:
        name: a registered attention, or None for the model's own.
        evicts: whether the policy evicts.
        chooses: whether the storage shows a pass only some of the units.
        positions: of the budget.

    Raises:
        LocretError: with the reason, or unknown attention.
    """
    if name is None or (attentions.get(name) and name not in in_order):
        return
    if evicts or chooses:
        what = "a policy that evicts" if evicts else "a storage that shows each pass other units"
        raise LocretError(
            f"attention {name!r} goes by the distances of all keys and does not work with {what}: "
            "use policy 'full' and a storage that recalls everything"
        )
    if positions != "true":
        raise LocretError(f'attention {name!r} keeps everything at its place: use it with positions="true"')


@contextmanager
def use_attention(model: nn.Module, name: str | None) -> Iterator[None]:
    """Let `model` compute attention with the registered `name` in this thread; None leaves the model's own.

    Raises:
        LocretError: unknown attention.
    """
    if name is None:
        yield
        return
    with use_implementation(model, attentions.get(name)):
        yield


@contextmanager
def use_implementation(model: nn.Module, implementation: str) -> Iterator[None]:
    """Let `model` compute attention with transformers' `implementation` in this thread; afterwards as before."""
    configs = _configs(model)
    for config in configs:
        _choose(config, implementation)
    try:
        yield
    finally:
        for config in configs:
            _leave(config)


@dataclass
class _Lent:
    """A configuration whose attention at least one thread has chosen.

    Attributes:
        config: is held, so that its id stays its own.
        own: the implementation that it named before, and names again when nobody chooses any more.
        users: blocks that are open, in all threads.
    """

    config: Any
    own: str
    users: int = 0


class _Chosen(threading.local):
    """What this thread has chosen for each configuration, by id: the innermost block's comes last."""

    def __init__(self) -> None:
        self.names: dict[int, list[str]] = {}


_lent: dict[int, _Lent] = {}
_lending = threading.Lock()
_chosen = _Chosen()


def _choose(config: Any, implementation: str) -> None:
    with _lending:
        lent = _lent.setdefault(id(config), _Lent(config, config._attn_implementation))
        lent.users += 1
        _chosen.names.setdefault(id(config), []).append(implementation)
        config._attn_implementation = NAME


def _leave(config: Any) -> None:
    with _lending:
        names = _chosen.names[id(config)]
        names.pop()
        if not names:
            del _chosen.names[id(config)]
        lent = _lent[id(config)]
        lent.users -= 1
        if not lent.users:
            config._attn_implementation = _lent.pop(id(config)).own


def _implementation(config: Any) -> str:
    """What the thread that asks computes attention with."""
    names = _chosen.names.get(id(config))
    return names[-1] if names else _lent[id(config)].own


def chosen_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """An attention function in transformers' sense: the one that this thread has chosen, or the model's own.

    Who wraps it may give `dropout` by its place, which eager attention has another argument in.
    """
    if id(module.config) in _chosen.names:
        query, key, value = _alike(query, key, value)
    # Eager attention is no entry of transformers' table: every modelling file has a function of this name.
    eager = vars(sys.modules[type(module).__module__]).get("eager_attention_forward")
    function = ALL_ATTENTION_FUNCTIONS.get_interface(_implementation(module.config), eager)
    output: tuple[Tensor, Tensor | None] = function(
        module, query, key, value, attention_mask, dropout=dropout, **kwargs
    )
    return output


def _alike(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three in one precision: that of `torch.autocast`, or of the queries.

    Autocast sees to it for `scaled_dot_product_attention` alone. It leaves queries and keys in another precision than
    values, as rotary embedding is computed in fp32, and a session read under it may go on without.
    """
    kind = query.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else query.dtype
    return query.to(dtype), key.to(dtype), value.to(dtype)


def chosen_mask(*args: Any, config: Any, **kwargs: Any) -> Any:
    """A mask function in transformers' sense, for the same attention; None where that has none."""
    function = ALL_MASK_ATTENTION_FUNCTIONS.get(_implementation(config))
    return None if function is None else function(*args, config=config, **kwargs)


def _configs(model: nn.Module) -> list[Any]:
    """The configurations that the attention modules read: the model's, and its language model's if that is another."""
    config = model.config
    text = text_config(config)
    if not hasattr(config, "_attn_implementation"):
        raise LocretError(f"{type(model).__name__} cannot change its attention: use a model of transformers")
    return [config] if text is config else [config, text]


AttentionInterface.register(NAME, chosen_attention)
AttentionMaskInterface.register(NAME, chosen_mask)
