"""The hook on the decoder: it cuts long forward passes into chunks, and sets positions and mask for what is stored.

It acts only when the forward pass uses a `BudgetCache`; with any other cache the model is as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from locret.cache.outputs import check_outputs
from locret.cache.passes import padding_of, with_positions
from locret.cache.prepare import prepare_here, restore
from locret.cache.ragged import read_rows, replayed
from locret.cache.surprise import note_output_layer, surprise_of
from locret.errors import LocretError
from locret.models.attached import attach_once, take_off
from locret.models.families import decoder_of, text_config
from locret.models.placement import has_values
from locret.models.rope import hold, switch_point, use_held
from locret.models.taps import attach_taps, detach_taps
from locret.models.token_ids import check_ids

if TYPE_CHECKING:
    from locret.cache.budget_cache import BudgetCache

PASSES = "passes"


def attach(model: nn.Module) -> None:
    """Put the hooks that a `BudgetCache` needs on `model`, once.

    Raises:
        LocretError: the model's family is not supported.
    """
    attach_taps(model)
    note_output_layer(model)
    attach_once(model, PASSES, lambda: _register(model))
    prepare_here(model)


def _register(model: nn.Module) -> Iterator[RemovableHandle]:
    decoder = decoder_of(model)
    yield model.register_forward_pre_hook(check_outputs, with_kwargs=True)
    yield decoder.register_forward_pre_hook(_before_decoder, with_kwargs=True)
    yield decoder.register_forward_hook(_after_decoder, with_kwargs=True, always_call=True)
    if switch_point(model.config) is not None:
        rotary: Any = decoder.rotary_emb
        yield rotary.register_forward_hook(use_held, with_kwargs=True)


def detach(model: nn.Module) -> None:
    """Take all hooks off `model`; without hooks nothing happens. A `BudgetCache` in use refuses to go on without."""
    detach_taps(model)
    take_off(model, PASSES)
    restore(model)


@torch.compiler.disable
def _before_decoder(
    decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    cache: Any = kwargs.get("past_key_values")
    if not getattr(cache, "is_budgeted", False):
        hold(decoder, getattr(cache, "frequencies", None))  # of a pass that was broken off nothing is left
        return None
    return (), _prepared(decoder, cache, {"input_ids": args[0], **kwargs} if args else kwargs)


def _prepared(decoder: nn.Module, cache: BudgetCache, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a pass' last piece; what comes before it has been read."""
    inputs = kwargs["inputs_embeds"] if kwargs.get("input_ids") is None else kwargs["input_ids"]
    length = inputs.shape[1]
    if length == 0:
        raise LocretError(_nothing_to_read(cache.tokens_seen))
    reading, ids = cache.reading, kwargs.get("input_ids")
    if not reading.in_pieces:
        cache.check_unbroken()
        if ids is not None and has_values(ids):
            check_ids(ids, text_config(decoder.config).vocab_size)
    cache.check_window(length)
    pads = padding_of(kwargs.get("attention_mask"))
    if pads is not None and cache.tokens_seen == 0 and length - int(pads.min()) > cache.budget.chunk:
        return read_rows(decoder, cache, kwargs, pads)
    reading.under_way = True
    if pads is not None and not reading.in_pieces:  # a piece's own mask does not show padding that is wider than it
        reading.pads = pads
    pieces = cache.plan(length)
    cache.settle_rope(length)
    if length > 1:
        cache.make_room()
    start, at = cache.tokens_seen, 0
    if len(pieces) > 1:
        with reading.pieces():
            for piece in pieces[:-1]:
                decoder(**_slice(kwargs, start, at, at + piece))  # comes back here with a plan of one piece
                at += piece
    piece_kwargs = kwargs if at == 0 else _slice(kwargs, start, at, length)
    hold(decoder, cache.frequencies)
    piece_kwargs = with_positions(decoder, piece_kwargs, cache, inputs[:, at:])
    reading.cuts.begin()
    return piece_kwargs


def _nothing_to_read(seen: int) -> str:
    """Of a cache that has read something `generate` skips as many tokens of its prompt."""
    if not seen:
        return "the prompt is empty: give at least one token"
    return (
        f"the cache has read {seen} tokens and the prompt has none beyond them: give all tokens so far with the new "
        "ones behind them, or begin anew with another cache or cache.reset()"
    )


@torch.compiler.disable
def _after_decoder(decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    hold(decoder, None)
    cache: Any = kwargs.get("past_key_values")
    if getattr(cache, "is_budgeted", False) and output is not None:
        reading = cache.reading
        cache.finish_pass(lambda: surprise_of(decoder, output.last_hidden_state, kwargs.get("input_ids")))
        prompt = reading.prompt_length
        reading.cuts.end(more=prompt is not None and cache.tokens_seen < prompt)
        reading.under_way = reading.in_pieces
    return replayed(cache, output)


def _slice(kwargs: dict[str, Any], start: int, begin: int, end: int) -> dict[str, Any]:
    """The keyword arguments for the tokens `begin` to `end` of a pass that began after `start` tokens."""
    piece = dict(kwargs)
    for name in ("input_ids", "inputs_embeds"):
        if kwargs.get(name) is not None:
            piece[name] = kwargs[name][:, begin:end]
    if kwargs.get("position_ids") is not None:
        piece["position_ids"] = kwargs["position_ids"][..., begin:end]
    if kwargs.get("attention_mask") is not None:
        piece["attention_mask"] = kwargs["attention_mask"][:, : start + end]
    return piece
