"""Dynamic storage: what `dense` does, with new tensors for every change; the reference that `dense` is checked by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from locret.cache.storage import register_storage
from locret.models.queries import Queries


@register_storage("dynamic")
@dataclass(frozen=True)
class Dynamic:
    """Two tensors, [batch, kv_heads, units, head_dim] each; None while empty."""

    keys: Tensor | None = None
    values: Tensor | None = None
    moves_late: ClassVar[bool] = True

    @property
    def units(self) -> int:
        """Stored units per KV head."""
        return 0 if self.keys is None else self.keys.shape[-2]

    @property
    def nbytes(self) -> int:
        """Bytes of both tensors."""
        return 0 if self.keys is None else self.keys.nbytes + self.read()[1].nbytes

    def read(self) -> tuple[Tensor, Tensor]:
        """Both tensors."""
        assert self.keys is not None and self.values is not None, "nothing is stored yet"
        return self.keys, self.values

    @property
    def visible(self) -> int:
        """All of them."""
        return self.units

    def recall(self, new: int, queries: Queries | None) -> tuple[Tensor, Tensor]:
        """Both tensors."""
        return self.read()

    def append(self, keys: Tensor, values: Tensor) -> Dynamic:
        """With new units at the end."""
        if self.keys is None:
            # Cloned, as projections may be views of a larger activation that would stay alive with them.
            return Dynamic(keys.clone(), values.clone())
        stored_keys, stored_values = self.read()
        return Dynamic(torch.cat([stored_keys, keys], dim=-2), torch.cat([stored_values, values], dim=-2))

    def gather(self, indices: Tensor) -> Dynamic:
        """Only the units at `indices` [batch, kv_heads, kept]."""
        keys, values = self.read()
        index = indices[..., None].expand(*indices.shape, keys.shape[-1])
        value_index = indices[..., None].expand(*indices.shape, values.shape[-1])
        return Dynamic(keys.gather(-2, index), values.gather(-2, value_index))

    def evict(self, kept: Tensor, scores: Tensor) -> Dynamic:
        """Only the units at `kept`; the others are gone."""
        return self.gather(kept)

    def map_keys(self, change: Callable[[Tensor], Tensor]) -> Dynamic:
        """With the keys changed."""
        keys, values = self.read()
        return Dynamic(change(keys), values)

    def select_batch(self, indices: Tensor) -> Dynamic:
        """Only the batch rows at `indices`."""
        if self.keys is None:
            return self
        keys, values = self.read()
        return Dynamic(keys.index_select(0, indices.to(keys.device)), values.index_select(0, indices.to(values.device)))

    @classmethod
    def stack(cls, rows: Sequence[Dynamic]) -> Dynamic:
        """One batch; rows with fewer units are padded at the front."""
        pairs = [row.read() for row in rows]
        longest = max(row.units for row in rows)
        keys, values = (
            torch.cat([pad(tensor, (0, 0, longest - tensor.shape[-2], 0)) for tensor in column])
            for column in zip(*pairs, strict=True)
        )
        return cls(keys, values)
