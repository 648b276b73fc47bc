"""The hook on the decoder: it cuts long forward passes into chunks, and sets positions and mask for what is stored.

It acts only when the forward pass uses a `BudgetCache`; with any other cache the model is as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from locret.errors import LocretError
from locret.models.families import decoder_of
from locret.models.taps import attach_taps, detach_taps

if TYPE_CHECKING:
    from locret.cache.budget_cache import BudgetCache

_attached: WeakKeyDictionary[nn.Module, RemovableHandle] = WeakKeyDictionary()


def attach(model: nn.Module) -> None:
    """Put the hooks that a `BudgetCache` needs on `model`, once.

    Raises:
        LocretError: the model's family is not supported.
    """
    attach_taps(model)
    if model not in _attached:
        _attached[model] = decoder_of(model).register_forward_pre_hook(_before_decoder, with_kwargs=True)


def detach(model: nn.Module) -> None:
    """Take all hooks off `model`; without hooks nothing happens."""
    detach_taps(model)
    if model in _attached:
        _attached.pop(model).remove()


def _before_decoder(
    decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    cache: BudgetCache | None = kwargs.get("past_key_values")
    if not getattr(cache, "is_budgeted", False):
        return None
    assert cache is not None
    if args:
        kwargs = {"input_ids": args[0], **kwargs}
    inputs = kwargs["inputs_embeds"] if kwargs.get("input_ids") is None else kwargs["input_ids"]
    length = inputs.shape[1]
    if length == 0:
        raise LocretError("the prompt is empty: give at least one token")
    cache.check_window(length)
    pieces = cache.plan(length)
    if length > 1:
        cache.make_room()
    start, at = cache.tokens_seen, 0
    for piece in pieces[:-1]:
        decoder(**_slice(kwargs, start, at, at + piece))  # comes back here with a plan of one piece
        at += piece
    piece_kwargs = kwargs if at == 0 else _slice(kwargs, start, at, length)
    return (), _with_positions(piece_kwargs, cache, inputs, length - at)


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


def _with_positions(kwargs: dict[str, Any], cache: BudgetCache, inputs: Tensor, new: int) -> dict[str, Any]:
    """Replace mask and positions, which speak of all tokens seen, by ones that speak of the units stored."""
    _note_padding(cache, kwargs.get("attention_mask"))
    seen, stored, pads = cache.tokens_seen, cache.stored, cache.reading.pads
    arrived = torch.arange(seen, seen + new, device=inputs.device)[None]  # [1, new]
    mask = None
    if pads is not None:
        pads = pads.to(inputs.device)[:, None]  # [batch, 1]
        kept = cache.layers[0].positions[:, 0].to(inputs.device) if stored else arrived[:, :0].expand(len(pads), 0)
        # Padding is scored alike in all heads, so head 0 of layer 0 speaks for every one.
        mask = torch.cat([kept >= pads, arrived >= pads], dim=-1).long()  # [batch, stored + new]
    if cache.budget.positions == "compact":
        positions = torch.arange(stored, stored + new, device=inputs.device)[None]
    elif kwargs.get("position_ids") is not None:
        positions = kwargs["position_ids"]
    else:
        positions = arrived if pads is None else (arrived - pads).clamp(min=0)
    return {**kwargs, "attention_mask": mask, "position_ids": positions}


def _note_padding(cache: BudgetCache, mask: Tensor | None) -> None:
    """Remember the left padding that a 2-D mask [batch, seen + new] shows.

    Raises:
        LocretError: the mask has another shape, or pads elsewhere than on the left.
    """
    if mask is None:
        return
    if mask.dim() != 2:
        raise LocretError(f"attention_mask has {mask.dim()} dimensions: a budgeted cache takes a 2-D padding mask")
    mask = mask.bool()
    pads = (mask.cumsum(dim=-1) == 0).sum(dim=-1)  # [batch]
    if not torch.equal(mask.sum(dim=-1) + pads, torch.full_like(pads, mask.shape[-1])):
        raise LocretError("attention_mask hides tokens after the first visible one: pad on the left")
    if pads.any():
        cache.reading.pads = pads
