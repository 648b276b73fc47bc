"""Positions and masks of one forward pass: transformers' speak of all tokens seen, ours of the units stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask

from locret.cache.slots import first_slot
from locret.errors import LocretError
from locret.models.placement import input_device

if TYPE_CHECKING:
    from locret.cache.budget_cache import BudgetCache


def padding_of(mask: Tensor | None) -> Tensor | None:
    """Left padding of each row, [batch], that a 2-D mask [batch, seen + new] shows; None where there is none.

    Raises:
        LocretError: the mask has another shape, or pads elsewhere than on the left.
    """
    if mask is None:
        return None
    if mask.dim() != 2:
        raise LocretError(f"attention_mask has {mask.dim()} dimensions: a budgeted cache takes a 2-D padding mask")
    mask = mask.bool()
    pads = (mask.cumsum(dim=-1) == 0).sum(dim=-1)  # [batch]
    if not torch.equal(mask.sum(dim=-1) + pads, torch.full_like(pads, mask.shape[-1])):
        raise LocretError("attention_mask hides tokens after the first visible one: pad on the left")
    return pads if bool(pads.any()) else None


def with_positions(decoder: nn.Module, kwargs: dict[str, Any], cache: BudgetCache, inputs: Tensor) -> dict[str, Any]:
    """The keyword arguments of a pass with mask and positions for what is stored.

    Args:
        decoder: the stack of layers.
        kwargs: the pass' arguments.
        cache: its cache.
        inputs: token ids [batch, new], or embeddings [batch, new, width].
    """
    new, batch, device = inputs.shape[1], inputs.shape[0], input_device(decoder)
    seen, stored, pads = cache.tokens_seen, cache.stored, cache.reading.pads
    arrived = torch.arange(seen, seen + new, device=device)[None]  # [1, new]
    pads = None if pads is None else pads.to(device)[:, None]  # [batch, 1]
    slots = first_slot(cache, batch, new, device) if cache.budget.positions == "compact" else None
    if slots is not None:
        positions = (slots + torch.arange(new, device=device)).clamp(min=0)
    elif kwargs.get("position_ids") is not None:
        positions = kwargs["position_ids"].to(device)
    else:
        positions = arrived if pads is None else (arrived - pads).clamp(min=0)
    mask: Any = None
    if pads is not None:
        layer = cache.layers[cache.budgeted[0]]
        kept = layer.positions[:, 0].to(device) if stored else arrived[:, :0].expand(batch, 0)
        # Padding is scored alike in all heads, so one head of one layer speaks for every one.
        mask = torch.cat([kept >= pads, (arrived >= pads).expand(batch, new)], dim=-1).long()  # [batch, stored + new]
        if cache.sliding:
            mask = _masks_by_kind(decoder, cache, new, mask, pads)
    if slots is not None:
        cache.reading.next_slot = slots[:, 0] + new
    return {**kwargs, "attention_mask": mask, "position_ids": positions}


def _masks_by_kind(
    decoder: Any, cache: BudgetCache, new: int, stored_mask: Tensor, pads: Tensor
) -> dict[str, Tensor | None]:
    """Masks of a padded batch for both kinds of layers: sliding windows go by tokens seen, the others by units."""
    device = pads.device
    like = torch.empty(len(pads), new, 1, dtype=decoder.dtype, device=device)  # only shape and dtype are read
    seen_mask = (torch.arange(cache.tokens_seen + new, device=device)[None] >= pads).long()
    return {
        "full_attention": create_causal_mask(decoder.config, like, stored_mask, cache),
        "sliding_attention": create_sliding_window_causal_mask(decoder.config, like, seen_mask, cache),
    }
