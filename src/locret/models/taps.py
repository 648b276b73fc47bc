"""Taps: forward hooks that hand every layer's q, k, v projections to whoever asks, and change nothing.

A receiver is either the `past_key_values` of the forward pass, if it has a method `receive_projections`, or a function
put in place by `tap_projections`. Without a receiver the hooks return at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from locret.models.families import Family, Projections, Shapes, attention_modules, family_of, shapes_of

Receive = Callable[[int, Projections], None]

_attached: WeakKeyDictionary[nn.Module, list[RemovableHandle]] = WeakKeyDictionary()


class _Receiver(threading.local):
    """The function that `tap_projections` put in place, one a thread."""

    function: Receive | None = None


_explicit = _Receiver()


class _LayerState(threading.local):
    """What one layer has collected in the forward pass under way, one a thread."""

    receive: Receive | None = None
    outputs: tuple[Tensor, ...] = ()


def attach_taps(model: nn.Module) -> None:
    """Put the hooks on `model`, once; a second call does nothing.

    Raises:
        LocretError: the model's family is not supported.
    """
    if model in _attached:
        return
    family, shapes = family_of(model.config), shapes_of(model.config)
    handles: list[RemovableHandle] = []
    for layer, module in enumerate(attention_modules(model)):
        handles += _tap_layer(module, layer, family, shapes)
    _attached[model] = handles


def detach_taps(model: nn.Module) -> None:
    """Take the hooks off again; without hooks nothing happens."""
    for handle in _attached.pop(model, []):
        handle.remove()


@contextmanager
def tap_projections(model: nn.Module, receive: Receive) -> Iterator[None]:
    """Call `receive(layer, projections)` in every layer of every forward pass inside the block, in this thread."""
    attach_taps(model)
    before, _explicit.function = _explicit.function, receive
    try:
        yield
    finally:
        _explicit.function = before


def _tap_layer(module: nn.Module, layer: int, family: Family, shapes: Shapes) -> list[RemovableHandle]:
    state = _LayerState()

    def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        from_cache = getattr(kwargs.get("past_key_values"), "receive_projections", None)
        state.receive = _explicit.function or from_cache
        state.outputs = ()

    def collect(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        if state.receive is None:
            return
        state.outputs = (*state.outputs, output)
        if len(state.outputs) == len(family.projections):
            state.receive(layer, family.split(state.outputs, shapes))
            state.outputs = ()

    def leave(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        state.receive, state.outputs = None, ()

    return [
        module.register_forward_pre_hook(enter, with_kwargs=True),
        *(module.get_submodule(name).register_forward_hook(collect) for name in family.projections),
        module.register_forward_hook(leave, always_call=True),
    ]
