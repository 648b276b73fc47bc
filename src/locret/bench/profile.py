"""Where the time of reading goes, by part of the pass, as torch's profiler sees it.

The parts are named ranges that are put around the model's modules and this package's classes for the length of one
reading, and taken away again; nothing in them knows of it.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from locret.attention.select import attentions
from locret.bench.contestants import Engined
from locret.bench.measure import synchronise
from locret.cache.cuts import Cuts
from locret.cache.layer import BudgetLayer
from locret.models.families import attention_modules, decoder_of, family_of

PREFIX = "locret: "
PARTS = ("projections", "attention", "mlp", "scores", "eviction", "cache", "output layer", "other")
WHOLE = "update"  # of the cache: scoring and eviction may be inside, the rest of it is the part "cache"
INSIDE = " in update"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of reading.

    Attributes:
        name: one of `PARTS`.
        seconds: of the CPU, or of the CUDA device where the model is on one.
        share: of the whole reading.
    """

    name: str
    seconds: float
    share: float


def profile_reading(contestant: Engined, ids: Sequence[int], device: torch.device) -> list[Part]:
    """Read a prompt once under the profiler; the largest part first."""
    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with ranges(contestant), profile(activities=activities, acc_events=True) as profiler:
        synchronise(device)
        began = time.perf_counter()
        contestant.read(ids)
        synchronise(device)
        total = time.perf_counter() - began
    found: dict[str, float] = {}
    for event in profiler.key_averages():
        if event.key.startswith(PREFIX):
            name = event.key.removeprefix(PREFIX)
            microseconds = event.device_time_total if cuda else event.cpu_time_total
            found[name] = max(found.get(name, 0.0), microseconds / 1e6)
    found["cache"] = found.pop(WHOLE, 0.0)
    for name in [name for name in found if name.endswith(INSIDE)]:
        seconds, outside = found.pop(name), name.removesuffix(INSIDE)
        found["cache"] -= seconds
        found[outside] = found.get(outside, 0.0) + seconds
    found["other"] = max(total - sum(found.values()), 0.0)
    parts = [Part(name, found.get(name, 0.0), found.get(name, 0.0) / total) for name in PARTS]
    return sorted(parts, key=lambda part: -part.seconds)


@contextmanager
def ranges(contestant: Engined) -> Iterator[None]:
    """Named ranges around everything that has a part of its own, inside the block."""
    engine, updating = contestant.engine, _Updating()
    with ExitStack() as stack:
        for module, name in _modules(engine.model):
            _range_module(stack, module, name)
        _replace(stack, BudgetLayer, "update", updating.whole)
        for owner, method in ((Cuts, "carry_out"), (BudgetLayer, "cut_in_order")):
            _replace(stack, owner, method, lambda cut: updating.part(cut, "eviction"))
        _replace(stack, type(engine.policy), "score", lambda score: updating.part(score, "scores"))
        if engine.attention:
            _range_attention(stack, attentions.get(engine.attention))
        yield


class _Updating:
    """Ranges in and outside the cache's update, told apart, so that none is counted twice."""

    def __init__(self) -> None:
        self.now = False

    def whole(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The update itself."""

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            self.now = True
            try:
                with record_function(PREFIX + WHOLE):
                    return function(*args, **kwargs)
            finally:
                self.now = False

        return run

    def part(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """What has a part of its own."""

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with record_function(PREFIX + name + (INSIDE if self.now else "")):
                return function(*args, **kwargs)

        return run


def _modules(model: Any) -> Iterator[tuple[nn.Module, str]]:
    """Modules that are parts as a whole; none of them is inside another."""
    names = (*family_of(model.config).projections, "o_proj")
    for module in attention_modules(model):
        yield from ((module.get_submodule(name), "projections") for name in names)
    yield from ((layer.mlp, "mlp") for layer in decoder_of(model).layers)  # type: ignore[union-attr]
    yield model.get_output_embeddings(), "output layer"


def _range_module(stack: ExitStack, module: nn.Module, name: str) -> None:
    open_ranges: list[Any] = []

    def enter(*_: Any) -> None:
        open_ranges.append(record_function(PREFIX + name).__enter__())

    def leave(*_: Any) -> None:
        open_ranges.pop().__exit__(None, None, None)

    for handle in (module.register_forward_pre_hook(enter), module.register_forward_hook(leave, always_call=True)):
        stack.callback(handle.remove)


def _replace(stack: ExitStack, owner: type, method: str, wrap: Callable[[Callable[..., Any]], Any]) -> None:
    original = getattr(owner, method)
    setattr(owner, method, wrap(original))
    stack.callback(setattr, owner, method, original)


def _range_attention(stack: ExitStack, implementation: str) -> None:
    original = ALL_ATTENTION_FUNCTIONS[implementation]

    @functools.wraps(original)
    def run(*args: Any, **kwargs: Any) -> Any:
        with record_function(PREFIX + "attention"):
            return original(*args, **kwargs)

    AttentionInterface.register(implementation, run)
    stack.callback(AttentionInterface.register, implementation, original)
