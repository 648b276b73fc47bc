"""Merging by likeness: an evicted unit goes on in the kept unit of its head whose key is like its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import normalize

from locret.cache.columns import Columns
from locret.cache.merged import Merged
from locret.cache.storage import register_storage

EVICTED_AT_ONCE = 256  # similarities of so many evicted units to all kept ones are in memory at a time


@dataclass(frozen=True)
class Nearest:
    """Every evicted unit is merged into the one kept unit that is most like it.

    As in D2O (arXiv 2406.13035), every evicted unit goes to the kept unit of its head with the nearest key by cosine
    similarity, and is dropped if even that is not like it. As in ToMe (arXiv 2210.09461), each unit carries the weight
    of all that was merged into it, so that however often units are merged the result is the mean of the original ones;
    D2O weights by similarity instead, and what was merged first fades. CaM (ICML 2024) merges values: `keys=False`.

    The third column is the weight, fp32. Attention does not know that a unit stands for several; ToMe adds the
    logarithm of their number to the logits.

    A unit with score -inf (padding) neither gives nor takes.

    Attributes:
        keys: whether keys are merged besides values.
        scored: an evicted unit counts exp(its score - the kept unit's score), at most 1, instead of 1.
        threshold: cosine similarity below which an evicted unit is dropped. Lower ones help running text and hurt
            retrieval: docs/storages.md.
    """

    keys: bool
    scored: bool = False
    threshold: float = 0.9

    def new_column(self, keys: Tensor) -> Tensor:
        """Weights of 1."""
        return torch.ones(*keys.shape[:-1], 1, dtype=torch.float32, device=keys.device)

    def merge(self, stored: Columns, kept: Tensor, scores: Tensor) -> Columns:
        """The units at `kept`, with the others merged into them."""
        gone = torch.ones_like(scores, dtype=torch.bool).scatter(-1, kept, False)
        lost = gone.nonzero()[:, -1].view(*kept.shape[:-1], -1)  # [batch, kv_heads, evicted]; row-major, so ascending
        keys, values, weights = (tensor.float() for tensor in stored.gather(kept).tensors)
        sums, totals = torch.cat([keys, values], dim=-1) * weights, weights
        directions, scores_kept = normalize(keys, dim=-1), scores.gather(-1, kept)
        padding = (scores_kept == -torch.inf)[..., None, :]  # [batch, kv_heads, 1, kept]
        for part in lost.split(EVICTED_AT_ONCE, dim=-1):
            old_keys, old_values, old_weights = (tensor.float() for tensor in stored.gather(part).tensors)
            similarities = normalize(old_keys, dim=-1) @ directions.mT  # [batch, kv_heads, evicted, kept]
            likeness, nearest = similarities.masked_fill(padding, -torch.inf).max(dim=-1)
            share = self._share(likeness, scores.gather(-1, part), scores_kept.gather(-1, nearest))[..., None]
            added = old_weights * share  # [batch, kv_heads, evicted, 1]
            totals = totals.scatter_add(-2, nearest[..., None], added)
            change = torch.cat([old_keys, old_values], dim=-1) * added
            sums = sums.scatter_add(-2, nearest[..., None].expand_as(change), change)
        means = sums / totals.clamp(min=torch.finfo(torch.float32).tiny)
        mean_keys, mean_values = means.split([keys.shape[-1], values.shape[-1]], dim=-1)
        dtype = stored.tensors[0].dtype
        return Columns(((mean_keys if self.keys else keys).to(dtype), mean_values.to(dtype), totals))

    def _share(self, likeness: Tensor, lost: Tensor, kept: Tensor) -> Tensor:
        """Which part of its weight each evicted unit gives, 0 to 1; all arguments [batch, kv_heads, evicted].

        Args:
            likeness: cosine similarity to the nearest kept unit.
            lost, kept: scores of the evicted unit and of that kept one.
        """
        alive = (likeness >= self.threshold) & (lost > -torch.inf)
        share = (lost - kept).nan_to_num(nan=0.0).clamp(max=0).exp() if self.scored else torch.ones_like(likeness)
        return share.masked_fill(~alive, 0.0)


register_storage("merge_kv")(partial(Merged, Nearest(keys=True)))
register_storage("merge")(register_storage("merge_v")(partial(Merged, Nearest(keys=False))))  # the best has two names
register_storage("merge_scored")(partial(Merged, Nearest(keys=False, scored=True)))
