"""The gold test's yardstick: one dense forward pass under a mask that hides exactly the evicted units.

The prompt goes through the model at once, without a cache. In every layer each query may look only at the (layer, head,
token) units that were stored when it was read, and at its own pass causally. Rotary positions are those of the reading:
the tokens' own ones, or, with compact positions, slots.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from locret.cache.slots import Packing
from locret.models.families import decoder_of


@dataclass(frozen=True)
class Pass:
    """One forward pass of the reading.

    Attributes:
        begin, end: its queries.
        kept: what each layer held before, [batch, kv_heads, kept].
        slots: with compact positions, where that stood, and after it the pass itself: [batch, kv_heads, kept + new].
    """

    begin: int
    end: int
    kept: dict[int, Tensor] | None
    slots: dict[int, Tensor] | None = None


@dataclass
class Reading:
    """All passes of one reading."""

    positions: str
    passes: list[Pass] = field(default_factory=list)

    def record(self, cache: Any, length: int) -> None:
        """Note what `cache` holds before a pass of `length` tokens."""
        seen = cache.tokens_seen
        kept = {i: cache.kept_positions(i).clone() for i in cache.budgeted} if seen else None
        slots = {i: self._slots(cache, i, length) for i in cache.budgeted} if seen else None
        self.passes.append(Pass(seen, seen + length, kept, slots))

    def _slots(self, cache: Any, layer: int, length: int) -> Tensor:
        """Slots of what is stored and of the new tokens: an unbroken row, unless an answer is evicted from."""
        stored = cache.layers[layer].positions
        row = torch.arange(stored.shape[-1] + length).expand(*stored.shape[:2], -1)
        if cache.budget.positions == "true" or cache.budget.decode_budget is None:
            return row
        held, coming = cache.layers[layer].slots, int(cache.reading.next_slot)
        slots = held.turned if held.packing is not Packing.DUE else row[..., : stored.shape[-1]]
        slots = torch.cat([slots, torch.arange(coming - length, coming).expand(*slots.shape[:2], -1)], -1)
        assert bool((slots.diff(dim=-1) > 0).all()), "slots are in the order of the prompt"
        assert coming <= max(row.shape[-1], cache.budget.size + cache.budget.chunk)
        return slots


@contextmanager
def recorded(model: Any, reading: Reading) -> Iterator[Reading]:
    """Record every pass of a budgeted cache through `model` (single pieces: after long passes have been cut)."""

    def before(layer: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        reading.record(kwargs["past_key_values"], hidden.shape[1])

    hook = decoder_of(model).layers[0].register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield reading
    finally:
        hook.remove()


_reading: list[tuple[Reading, list[Tensor], int]] = []


def _rotate(x: Tensor, positions: Tensor, frequencies: Tensor) -> Tensor:
    """Plain rotary embedding of x [..., tokens, dim] at positions [..., tokens]."""
    angles = positions[..., None].double() * frequencies.double()
    cos, sin = torch.cat([angles, angles], -1).cos().float(), torch.cat([angles, angles], -1).sin().float()
    turned, rest = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
    first, second = turned.chunk(2, -1)
    return torch.cat([turned * cos + torch.cat([-second, first], -1) * sin, rest], -1)


def _gold_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float = 1.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    reading, every_frequency, window = _reading[-1]
    batch, heads, tokens, _ = key.shape
    groups = query.shape[1] // heads
    frequencies = every_frequency[module.layer_idx]
    if any(step.kept and module.layer_idx not in step.kept for step in reading.passes):
        return _sliding(query, key, value, scaling, frequencies, window)
    outputs = []
    for step in reading.passes:
        own = torch.arange(step.begin, step.end).expand(batch, heads, -1)
        kept = own[..., :0] if step.kept is None else step.kept[module.layer_idx]
        listed = torch.cat([kept, own], -1)  # [batch, heads, stored + new]
        slots = own if step.slots is None else step.slots[module.layer_idx]
        spots = listed if reading.positions == "true" else slots
        visible = torch.zeros(batch, heads, step.end - step.begin, tokens, dtype=torch.bool)
        visible.scatter_(-1, kept[:, :, None].expand(-1, -1, step.end - step.begin, -1), True)
        visible[..., step.begin : step.end] = torch.ones(step.end - step.begin, step.end - step.begin).tril().bool()
        key_positions = torch.zeros(batch, heads, tokens, dtype=torch.long).scatter(-1, listed, spots)
        rotated = _rotate(key, key_positions, frequencies).repeat_interleave(groups, 1)
        asking = query[:, :, step.begin : step.end]
        asking = _rotate(asking, spots[:, :1, -(step.end - step.begin) :], frequencies)
        scores = (asking @ rotated.mT * scaling).masked_fill(~visible.repeat_interleave(groups, 1), -torch.inf)
        outputs.append(scores.softmax(-1) @ value.repeat_interleave(groups, 1))
    return torch.cat(outputs, 2).transpose(1, 2).contiguous(), None


def _sliding(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, frequencies: Tensor, window: int
) -> tuple[Tensor, None]:
    """A layer with a sliding window sees the last `window` tokens at their true distance, whatever is evicted."""
    groups, at = query.shape[1] // key.shape[1], torch.arange(key.shape[2])
    query = _rotate(query, at.expand(query.shape[:3]), frequencies)
    key = _rotate(key, at.expand(key.shape[:3]), frequencies).repeat_interleave(groups, 1)
    distance = at[:, None] - at[None]
    scores = (query @ key.mT * scaling).masked_fill((distance < 0) | (distance >= window), -torch.inf)
    return (scores.softmax(-1) @ value.repeat_interleave(groups, 1)).transpose(1, 2).contiguous(), None


AttentionInterface.register("gold", _gold_attention)


def frequencies_of(model: Any) -> list[Tensor]:
    """Inverse frequencies of every layer, read off the model by the names that each family uses."""
    rotary, config = decoder_of(model).rotary_emb, model.config
    if hasattr(rotary, "inv_freq"):
        every = [rotary.inv_freq] * config.num_hidden_layers
    else:
        every = [getattr(rotary, f"{kind}_inv_freq") for kind in config.layer_types]
    rotated = getattr(config, "no_rope_layers", [1] * config.num_hidden_layers)  # SmolLM3: 1 where there is rotation
    return [own if turns else own[:0] for own, turns in zip(every, rotated, strict=True)]


@torch.no_grad()
def dense_logits(model: Any, ids: Tensor, reading: Reading) -> Tensor:
    """Logits [batch, tokens, vocab] of one dense pass that sees what `reading` saw.

    The model's own rotary embedding is switched off by giving every token position 0; ours is applied per pass.
    """
    before = model.config._attn_implementation
    _reading.append((reading, frequencies_of(model), getattr(model.config, "sliding_window", None) or 0))
    try:
        model.config._attn_implementation = "gold"
        logits: Tensor = model(input_ids=ids, position_ids=torch.zeros_like(ids), use_cache=False).logits
        return logits
    finally:
        model.config._attn_implementation = before
        _reading.pop()
