"""Taps: forward hooks that hand every layer's q, k, v projections to whoever asks, and change nothing.

A receiver is either the `past_key_values` of the forward pass, if it has a method `receive_projections`, or a function
put in place by `tap_projections`. Without a receiver the hooks return at once. A cache is also told how to get at the
layer's queries, which costs nothing until somebody asks, and what hidden state all three are projections of.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from locret.models.families import Family, Projections, Shapes, attention_modules, family_of, shapes_of
from locret.models.queries import rotated_queries

Receive = Callable[[int, Projections], None]

_attached: WeakKeyDictionary[nn.Module, list[RemovableHandle]] = WeakKeyDictionary()


class _Receiver(threading.local):
    """The function that `tap_projections` put in place, one a thread."""

    function: Receive | None = None


_explicit = _Receiver()


class _LayerState(threading.local):
    """What one layer has collected in the forward pass under way, one a thread."""

    receive: Receive | None = None
    cache: Any = None
    outputs: tuple[Tensor, ...] = ()
    normed: Tensor | None = None
    rotary: tuple[Tensor, Tensor] | None = None


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
        cache = kwargs.get("past_key_values")
        state.cache = cache if hasattr(cache, "receive_projections") else None
        state.receive = _explicit.function
        state.outputs, state.normed, state.rotary = (), None, kwargs.get("position_embeddings")

    def collect(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        if state.receive is None and state.cache is None:
            return
        state.outputs = (*state.outputs, output)
        if len(state.outputs) < len(family.projections):
            return
        projections = family.split(state.outputs, shapes)
        state.outputs = ()
        if state.receive is not None:
            state.receive(layer, projections)
        if state.cache is not None:
            state.cache.receive_projections(layer, projections, functools.partial(queries, projections.q), args[0])

    def norm(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        heads_last = output.transpose(1, 2) if family.heads_first_norm else output
        state.normed = heads_last if state.cache is not None else None

    def queries(projected: Tensor, last: int) -> Tensor:
        # Read when the keys arrive: the norm has run by then.
        return rotated_queries(module, shapes, projected if state.normed is None else state.normed, state.rotary, last)

    def leave(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        state.receive = state.cache = state.normed = state.rotary = None
        state.outputs = ()

    handles = [
        module.register_forward_pre_hook(enter, with_kwargs=True),
        *(module.get_submodule(name).register_forward_hook(collect) for name in family.projections),
        module.register_forward_hook(leave, always_call=True),
    ]
    own_norm: Any = getattr(module, "q_norm", None)
    return handles if own_norm is None else [*handles, own_norm.register_forward_hook(norm)]
