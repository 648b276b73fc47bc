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

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from locret.models.attached import attach_once, take_off
from locret.models.families import Family, Projections, Shapes, attention_modules, family_of, shapes_of
from locret.models.queries import rotated_queries

Receive = Callable[[int, Projections], None]

TAPS = "taps"


class _Receiver(threading.local):
    """The function that `tap_projections` put in place, one a thread."""

    function: Receive | None = None


_explicit = _Receiver()


class _LayerState(threading.local):
    """What one layer has collected in the forward pass under way, one a thread."""

    receive: Receive | None = None
    cache: Any = None
    module: nn.Module | None = None
    outputs: tuple[Tensor, ...] = ()
    normed: Tensor | None = None
    rotary: tuple[Tensor, Tensor] | None = None


def attach_taps(model: nn.Module) -> None:
    """Put the hooks on `model`, once; a second call does nothing.

    Raises:
        LocretError: the model's family is not supported.
    """
    family, shapes = family_of(model.config), shapes_of(model.config)
    taps = [_Tap(layer, family, shapes) for layer in range(shapes.layers)]
    modules = attention_modules(model)
    attach_once(
        model,
        TAPS,
        lambda: (handle for tap, module in zip(taps, modules, strict=True) for handle in tap.register(module)),
    )


def detach_taps(model: nn.Module) -> None:
    """Take the hooks off again; without hooks nothing happens."""
    take_off(model, TAPS)


@contextmanager
def tap_projections(model: nn.Module, receive: Receive) -> Iterator[None]:
    """Call `receive(layer, projections)` in every layer of every forward pass inside the block, in this thread."""
    attach_taps(model)
    before, _explicit.function = _explicit.function, receive
    try:
        yield
    finally:
        _explicit.function = before


class _Tap:
    """The hooks of one layer.

    Args:
        layer: its index.
        family, shapes: of the model.
    """

    def __init__(self, layer: int, family: Family, shapes: Shapes) -> None:
        self.layer, self.family, self.shapes = layer, family, shapes
        self.state = _LayerState()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied or pickled, it is a tap without a pass under way."""
        return _Tap, (self.layer, self.family, self.shapes)

    def register(self, module: nn.Module) -> Iterator[RemovableHandle]:
        """Put the hooks on the layer's attention module and what is in it."""
        yield module.register_forward_pre_hook(self.enter, with_kwargs=True)
        for name in self.family.projections:
            yield module.get_submodule(name).register_forward_hook(self.collect)
        yield module.register_forward_hook(self.leave, always_call=True)
        own_norm: Any = getattr(module, "q_norm", None)
        if own_norm is not None:
            yield own_norm.register_forward_hook(self.norm)

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the layer's attention: who is to be told?"""
        state, cache = self.state, kwargs.get("past_key_values")
        state.module = module
        state.cache = cache if hasattr(cache, "receive_projections") else None
        state.receive = _explicit.function
        state.outputs, state.normed, state.rotary = (), None, kwargs.get("position_embeddings")

    def collect(self, _: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        """After each projection."""
        state = self.state
        if state.receive is None and state.cache is None:
            return
        state.outputs = (*state.outputs, output)
        if len(state.outputs) < len(self.family.projections):
            return
        projections = self.family.split(state.outputs, self.shapes)
        state.outputs = ()
        if state.receive is not None:
            state.receive(self.layer, projections)
        if state.cache is not None:
            queries = functools.partial(self.queries, projections.q)
            state.cache.receive_projections(self.layer, projections, queries, args[0])

    def norm(self, _: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        """After the norm of the queries, in families that have one."""
        heads_last = output.transpose(1, 2) if self.family.heads_first_norm else output
        self.state.normed = heads_last if self.state.cache is not None else None

    def queries(self, projected: Tensor, last: int) -> Tensor:
        """The newest `last` queries of the pass; read when its keys arrive, when the norm has run."""
        state = self.state
        assert state.module is not None
        own = projected if state.normed is None else state.normed
        return rotated_queries(state.module, self.shapes, own, state.rotary, last)

    def leave(self, _: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """After the layer's attention: nothing of the pass is kept."""
        state = self.state
        state.receive = state.cache = state.module = state.normed = state.rotary = None
        state.outputs = ()
