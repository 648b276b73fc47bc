"""Choosing the attention function of a model for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from locret.errors import LocretError
from locret.models.families import text_config
from locret.registry import Registry

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
    """Let `model` compute attention with the registered `name`; None leaves the model's own.

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
    """Let `model` compute attention with transformers' `implementation`; afterwards with its own again."""
    configs = _configs(model)
    before = [config._attn_implementation for config in configs]
    try:
        for config in configs:
            config._attn_implementation = implementation
        yield
    finally:
        for config, value in zip(configs, before, strict=True):
            config._attn_implementation = value


def _configs(model: nn.Module) -> list[Any]:
    """The configurations that the attention modules read: the model's, and its language model's if that is another."""
    config = model.config
    text = text_config(config)
    if not hasattr(config, "_attn_implementation"):
        raise LocretError(f"{type(model).__name__} cannot change its attention: use a model of transformers")
    return [config] if text is config else [config, text]
