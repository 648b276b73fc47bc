"""LoCoCo's rule: what is evicted goes on in a few memory slots, by a learned convolution (arXiv 2406.05317)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from locret.cache.columns import Columns
from locret.errors import LocretError
from locret.models.merger import REMEDY, merge

PART = 8  # by default one of so many kept units is a memory slot


@dataclass(frozen=True)
class Convolution:
    """Some of the kept units are memory slots, into which the evicted ones are folded.

    At every eviction the slots' own content, the units that become slots for the first time, and the evicted units,
    in this order, go through the convolution of `locret.models.merger`; each slot then holds their mean by its weights.
    Slots are *inside* the budget, so bytes are those of `dense` and a mark a unit: the kept units of lowest score are
    made slots, but for the newest run (stabilizers) and those that a policy pins with an infinite score. A slot keeps
    position, score and place of the unit that it was made of; if the policy evicts that, another unit takes over.

    The paper convolves over the whole cache and the new tokens, and retrieves heavy hitters beside it; here the policy
    decides what stays as it is, and only the rest is merged. The paper merges keys before their rotary embedding,
    which a storage cannot take back. The third column says whether a unit is a slot.

    A unit with score -inf (padding) neither gives nor takes.

    Attributes:
        weight: [kv_heads, slots, 2 head_dim, kernel] of the layer; without it nothing can be evicted.
        slots: memory slots of a KV head; None for an eighth of what is kept. At most as many as `weight` has.
    """

    weight: Tensor | None = None
    slots: int | None = None

    def new_column(self, keys: Tensor) -> Tensor:
        """No unit arrives as a slot."""
        return torch.zeros(*keys.shape[:-1], 1, dtype=torch.bool, device=keys.device)

    def merge(self, stored: Columns, kept: Tensor, scores: Tensor) -> Columns:
        """The units at `kept`, with the others merged into the slots among them.

        Raises:
            LocretError: there is no trained convolution.
        """
        if kept.shape[-1] == stored.units:
            return stored.gather(kept)
        if self.weight is None:
            raise LocretError(f"storage 'lococo' has no trained merger: {REMEDY}, and give make_lococo its folder")
        slots = min(self.weight.shape[1], kept.shape[-1] // PART if self.slots is None else self.slots, kept.shape[-1])
        if not slots:
            return stored.gather(kept)
        hosts = _hosts(stored, kept, scores, slots)  # [batch, kv_heads, slots], among `kept`
        stays = kept.scatter(-1, hosts, -1)  # -1 for what becomes a slot
        merging = torch.ones_like(scores, dtype=torch.bool)
        merging = merging.scatter(-1, kept, stays < 0)
        mark = stored.tensors[2][..., 0]
        order = torch.where(merging, (~mark).int(), 2).sort(dim=-1, stable=True).indices  # slots, others, what stays
        chosen = order[..., : stored.units - kept.shape[-1] + slots]
        keys, values = (part.float() for part in stored.gather(chosen).tensors[:2])
        alive = scores.gather(-1, chosen) > -torch.inf
        merged = merge(self.weight[:, :slots].to(keys), torch.cat([keys, values], dim=-1), alive)
        return _with(stored, kept, hosts, merged, scores.gather(-1, kept.gather(-1, hosts)))


def _hosts(stored: Columns, kept: Tensor, scores: Tensor, slots: int) -> Tensor:
    """Which of the kept units are slots from now on, ascending [batch, kv_heads, slots]: indices into `kept`.

    Those that are already; then the others by score, the newest run, pinned ones and padding last in this order.
    """
    size = kept.shape[-1]
    tail = torch.arange(stored.units - size, stored.units, device=kept.device)
    newest = (kept == tail).flip(-1).int().cumprod(-1).flip(-1)  # [batch, kv_heads, kept]
    mark = stored.tensors[2][..., 0].gather(-1, kept)
    worth = scores.gather(-1, kept)
    rank = (1 + newest).masked_fill(worth == torch.inf, 3).masked_fill(mark, 0).masked_fill(worth == -torch.inf, 4)
    by_score = worth.sort(dim=-1, stable=True).indices
    by_rank = rank.gather(-1, by_score).sort(dim=-1, stable=True).indices
    return by_score.gather(-1, by_rank)[..., :slots].sort(dim=-1).values


def _with(stored: Columns, kept: Tensor, hosts: Tensor, merged: Tensor, worth: Tensor) -> Columns:
    """The kept units with the slots' new content; a slot that is padding keeps its own.

    Args:
        stored: all units.
        kept: [batch, kv_heads, kept].
        hosts: [batch, kv_heads, slots], among `kept`.
        merged: [batch, kv_heads, slots, 2 head_dim] fp32.
        worth: the slots' scores.
    """
    keys, values, mark = stored.gather(kept).tensors
    padding = (worth == -torch.inf)[..., None]
    new = []
    for old, part in zip((keys, values), merged.split([keys.shape[-1], values.shape[-1]], dim=-1), strict=True):
        at = hosts[..., None].expand(*hosts.shape, old.shape[-1])
        new.append(old.scatter(-2, at, torch.where(padding, old.gather(-2, at), part.to(old.dtype))))
    at = hosts[..., None]
    return Columns((*new, mark.scatter(-2, at, ~padding | mark.gather(-2, at))))
