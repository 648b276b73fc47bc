"""Merging storages: what an evicted unit held goes on in a kept unit of its head whose key is like its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from locret.cache.columns import Columns
from locret.cache.rotation import Move
from locret.cache.storage import register_storage
from locret.models.queries import Queries

EVICTED_AT_ONCE = 256  # similarities of so many evicted units to all kept ones are in memory at a time


@dataclass(frozen=True)
class Merged:
    """Dense storage that merges on eviction.

    As in D2O (arXiv 2406.13035), every evicted unit goes to the kept unit of its head with the nearest key by cosine
    similarity, and is dropped if even that is not like it. As in ToMe (arXiv 2210.09461), each unit carries the weight
    of all that was merged into it, so that however often units are merged the result is the mean of the original ones;
    D2O weights by similarity instead, and what was merged first fades. CaM (ICML 2024) merges values: `keys=False`.

    Keys are compared and averaged as they are stored, after rotary embedding, which a storage cannot take back: the
    mean of keys of far positions is shorter than they are, and attention's logits with it. Attention does not know that
    a unit stands for several either; ToMe adds the logarithm of their number to the logits.

    A unit with score -inf (padding) neither gives nor takes.

    Attributes:
        keys: whether keys are merged besides values.
        scored: an evicted unit counts exp(its score - the kept unit's score), at most 1, instead of 1.
        threshold: cosine similarity below which an evicted unit is dropped. Lower ones help running text and hurt
            retrieval: docs/storages.md.
        columns: keys, values, and fp32 weights [batch, kv_heads, units, 1]; None while empty.
    """

    keys: bool
    scored: bool = False
    threshold: float = 0.9
    columns: Columns | None = None
    takes_evicted: ClassVar[bool] = True
    moves_late: ClassVar[bool] = False  # a merged key cannot be told from one that arrived, so it is moved as it is

    @property
    def units(self) -> int:
        """Stored units per KV head."""
        return 0 if self.columns is None else self.columns.units

    @property
    def nbytes(self) -> int:
        """Bytes of keys, values and weights."""
        return 0 if self.columns is None else self.columns.nbytes

    def read(self) -> tuple[Tensor, Tensor]:
        """Keys and values."""
        keys, values, _ = self._stored.tensors
        return keys, values

    @property
    def visible(self) -> int:
        """All of them."""
        return self.units

    def recall(self, new: int, queries: Queries | None) -> tuple[Tensor, Tensor]:
        """Keys and values."""
        return self.read()

    def append(self, keys: Tensor, values: Tensor) -> Merged:
        """With new units at the end, of weight 1."""
        weights = torch.ones(*keys.shape[:-1], 1, dtype=torch.float32, device=keys.device)
        new = Columns((keys, values, weights))
        return replace(self, columns=new.between(0, new.units) if self.columns is None else self.columns.append(new))

    def gather(self, indices: Tensor) -> Merged:
        """Only the units at `indices` [batch, kv_heads, kept]; nothing is merged."""
        return replace(self, columns=self._stored.gather(indices))

    def evict(self, kept: Tensor, scores: Tensor) -> Merged:
        """The units at `kept`, with the others merged into them."""
        gone = torch.ones_like(scores, dtype=torch.bool).scatter(-1, kept, False)
        lost = gone.nonzero()[:, -1].view(*kept.shape[:-1], -1)  # [batch, kv_heads, evicted]; row-major, so ascending
        keys, values, weights = (tensor.float() for tensor in self._stored.gather(kept).tensors)
        sums, totals = torch.cat([keys, values], dim=-1) * weights, weights
        directions, scores_kept = normalize(keys, dim=-1), scores.gather(-1, kept)
        padding = (scores_kept == -torch.inf)[..., None, :]  # [batch, kv_heads, 1, kept]
        for part in lost.split(EVICTED_AT_ONCE, dim=-1):
            old_keys, old_values, old_weights = (tensor.float() for tensor in self._stored.gather(part).tensors)
            similarities = normalize(old_keys, dim=-1) @ directions.mT  # [batch, kv_heads, evicted, kept]
            likeness, nearest = similarities.masked_fill(padding, -torch.inf).max(dim=-1)
            share = self._share(likeness, scores.gather(-1, part), scores_kept.gather(-1, nearest))[..., None]
            added = old_weights * share  # [batch, kv_heads, evicted, 1]
            totals = totals.scatter_add(-2, nearest[..., None], added)
            change = torch.cat([old_keys, old_values], dim=-1) * added
            sums = sums.scatter_add(-2, nearest[..., None].expand_as(change), change)
        means = sums / totals.clamp(min=torch.finfo(torch.float32).tiny)
        mean_keys, mean_values = means.split([keys.shape[-1], values.shape[-1]], dim=-1)
        dtype = self.read()[0].dtype
        merged = Columns(((mean_keys if self.keys else keys).to(dtype), mean_values.to(dtype), totals))
        return replace(self, columns=merged)

    def _share(self, likeness: Tensor, lost: Tensor, kept: Tensor) -> Tensor:
        """Which part of its weight each evicted unit gives, 0 to 1; all arguments [batch, kv_heads, evicted].

        Args:
            likeness: cosine similarity to the nearest kept unit.
            lost, kept: scores of the evicted unit and of that kept one.
        """
        alive = (likeness >= self.threshold) & (lost > -torch.inf)
        share = (lost - kept).nan_to_num(nan=0.0).clamp(max=0).exp() if self.scored else torch.ones_like(likeness)
        return share.masked_fill(~alive, 0.0)

    def map_keys(self, change: Move) -> Merged:
        """With the keys moved."""
        keys, values, weights = self._stored.tensors
        return replace(self, columns=Columns((change(keys), values, weights)))

    def select_batch(self, indices: Tensor) -> Merged:
        """Only the batch rows at `indices`."""
        return self if self.columns is None else replace(self, columns=self.columns.select(indices))

    @classmethod
    def stack(cls, rows: Sequence[Merged]) -> Merged:
        """One batch; rows with fewer units are padded at the front, with weight 0."""
        return replace(rows[0], columns=Columns.stack([row._stored for row in rows]))

    @property
    def _stored(self) -> Columns:
        assert self.columns is not None, "nothing is stored yet"
        return self.columns


register_storage("merge_kv")(partial(Merged, keys=True))
register_storage("merge")(register_storage("merge_v")(partial(Merged, keys=False)))  # the best-behaved has two names
register_storage("merge_scored")(partial(Merged, keys=False, scored=True))
