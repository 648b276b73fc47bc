"""Decoding in static shapes: what is kept is copied to buffers of fixed size, so that one pass can be recorded.

On CUDA the pass is recorded as a graph and replayed for every token: launching its operations one by one takes a small
batch longer than computing them. Elsewhere it is run as it is, without the bookkeeping of a budget. Keys are rotated
already, so a unit may be in any slot.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, StaticLayer
from transformers.modeling_outputs import CausalLMOutputWithPast

from locret.cache.budget_cache import BudgetCache
from locret.cache.passes import with_positions
from locret.errors import LocretError, first_line
from locret.models.families import decoder_of, text_config
from locret.models.placement import devices_of, input_device

SLOTS_AT_ONCE = 256  # buffers are made for a multiple of so many units, so that longer answers seldom need new ones
WARM_UP = 2  # passes before one is recorded: libraries allocate in the first


class StaticCache(Cache):
    """Buffers of fixed size.

    Attributes:
        frequencies: what LongRoPE is held at, [rotary_dim / 2]; None for other models.
    """

    def __init__(self, layers: int, slots: int) -> None:
        super().__init__(layers=[StaticLayer(slots) for _ in range(layers)])
        self.frequencies: Tensor | None = None


class StaticDecoder:
    """The model with buffers of its own: called for one token it gives the logits behind it, like the model itself.

    Attributes:
        slots: how many units there is room for.
        graph: the recorded pass; None where passes are not recorded.
    """

    def __init__(self, model: Any, slots: int) -> None:
        self.model, self.slots = model, slots
        self.cache = StaticCache(text_config(model.config).num_hidden_layers, slots)
        self.token = torch.zeros(1, 1, dtype=torch.long, device=input_device(model))
        self.position = torch.zeros_like(self.token)
        self.logits: Tensor | None = None
        self.graph: torch.cuda.CUDAGraph | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""
        layers: Any = self.cache.layers
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)

    @torch.no_grad()
    def load(self, cache: BudgetCache) -> None:
        """Go on from what `cache` keeps; it stays as it is.

        Raises:
            LocretError: the pass cannot be recorded.
        """
        fork = cache.fork()
        start: Tensor = with_positions(decoder_of(self.model), {}, fork, self.token)["position_ids"]
        if fork.frequencies is not None and self.cache.frequencies is None:
            self.cache.frequencies = torch.empty_like(fork.frequencies)
        layers: Any = self.cache.layers
        if self.token.is_cuda and self.graph is None:
            self._put(layers, fork)
            self._record()
        self._put(layers, fork)
        self.position.copy_(start)

    def _put(self, layers: Any, fork: BudgetCache) -> None:
        for own, kept in zip(layers, fork.layers, strict=True):
            keys, values = kept.read()
            if not own.is_initialized:
                own.lazy_initialization(keys, values)
            own.keys[..., : keys.shape[-2], :] = keys
            own.values[..., : values.shape[-2], :] = values
            own.cumulative_length.fill_(keys.shape[-2])
        if self.cache.frequencies is not None:
            assert fork.frequencies is not None
            self.cache.frequencies.copy_(fork.frequencies)

    def _record(self) -> None:
        device, graph = self.token.device, torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.device(device):
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP):
                    self._pass()
            torch.cuda.current_stream(device).wait_stream(stream)
            try:
                with torch.cuda.graph(graph):
                    self._pass()
            except RuntimeError as error:  # something in the model waits for a value, as a choice of experts may
                raise LocretError(
                    f"this model's pass cannot be recorded as a CUDA graph ({first_line(error)}): leave static=False"
                ) from error
        self.graph = graph

    def _pass(self) -> None:
        output = self.model(
            input_ids=self.token, position_ids=self.position, past_key_values=self.cache, use_cache=True
        )
        latest = output.logits[0, -1]
        if self.logits is None:
            self.logits = torch.empty_like(latest)
        self.logits.copy_(latest)
        self.position.add_(1)

    @torch.no_grad()
    def __call__(self, *, input_ids: Tensor, **ignored: Any) -> CausalLMOutputWithPast:
        """The logits [1, 1, vocab] after one more token [1, 1]."""
        self.token.copy_(input_ids)
        if self.graph is None:
            self._pass()
        else:
            self.graph.replay()
        assert self.logits is not None
        return CausalLMOutputWithPast(logits=self.logits.clone()[None, None])


class StaticDecoders:
    """The decoders of one engine: as many as there are answers under way, used again and again.

    Args:
        model: a causal language model.
        cache: an empty cache as the engine makes them.

    Raises:
        LocretError: this combination cannot be decoded in static shapes.
    """

    def __init__(self, model: Any, cache: BudgetCache) -> None:
        storage = cache.layers[cache.budgeted[0]].storage
        plain = getattr(storage, "moves_late", False) and not hasattr(storage, "offloaded_bytes")
        reasons = {
            "the model has layers with a sliding window": bool(cache.sliding),
            "decode_budget evicts while an answer is written": cache.budget.decode_budget is not None,
            "the storage does not hold plain units on the device": not plain,
            "the model is on several devices": len(devices_of(model)) > 1,
        }
        for reason, holds in reasons.items():
            if holds:
                raise LocretError(f"static decoding is not possible: {reason}; leave static=False")
        self.model = model
        self.idle: list[StaticDecoder] = []

    @contextmanager
    def writing(self, cache: BudgetCache, limit: int) -> Iterator[StaticDecoder]:
        """A decoder for an answer of at most `limit` tokens that goes on from `cache`, for nobody else meanwhile."""
        needed = cache.stored + limit
        decoder = self._taken(needed) or StaticDecoder(self.model, -(-needed // SLOTS_AT_ONCE) * SLOTS_AT_ONCE)
        decoder.load(cache)
        try:
            yield decoder
        finally:
            self.idle.append(decoder)

    def _taken(self, needed: int) -> StaticDecoder | None:
        """An idle decoder with room enough; smaller ones are given up."""
        while True:
            try:
                decoder = self.idle.pop()
            except IndexError:
                return None
            if decoder.slots >= needed:
                return decoder
