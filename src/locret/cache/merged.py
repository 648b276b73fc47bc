"""Merging storages: what an evicted unit held goes on in kept units, by one rule or another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

from torch import Tensor

from locret.cache.columns import Columns
from locret.cache.rotation import Move
from locret.models.queries import Queries


class Rule(Protocol):
    """What becomes of evicted units. A unit has a third column beside key and value, which is the rule's own."""

    def new_column(self, keys: Tensor) -> Tensor:
        """The third column of units that arrive, [batch, kv_heads, units, 1]; `keys` [batch, kv_heads, units, dim]."""
        ...

    def merge(self, stored: Columns, kept: Tensor, scores: Tensor) -> Columns:
        """The units at `kept`, with what the others held; arguments as in `Storage.evict`."""
        ...


@dataclass(frozen=True)
class Merged:
    """Dense storage that merges on eviction.

    Keys are merged as they are stored, after rotary embedding, which a storage cannot take back: the mean of keys of
    far positions is shorter than they are, and attention's logits with it.

    Attributes:
        rule: how.
        columns: keys, values, and the rule's own column [batch, kv_heads, units, 1]; None while empty.
    """

    rule: Rule
    columns: Columns | None = None
    takes_evicted: ClassVar[bool] = True
    moves_late: ClassVar[bool] = False  # a merged key cannot be told from one that arrived, so it is moved as it is

    @property
    def units(self) -> int:
        """Stored units per KV head."""
        return 0 if self.columns is None else self.columns.units

    @property
    def nbytes(self) -> int:
        """Bytes of keys, values and the rule's column."""
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
        """With new units at the end."""
        new = Columns((keys, values, self.rule.new_column(keys)))
        return replace(self, columns=new.between(0, new.units) if self.columns is None else self.columns.append(new))

    def gather(self, indices: Tensor) -> Merged:
        """Only the units at `indices` [batch, kv_heads, kept]; nothing is merged."""
        return replace(self, columns=self._stored.gather(indices))

    def evict(self, kept: Tensor, scores: Tensor) -> Merged:
        """The units at `kept`, with the others merged into them."""
        return replace(self, columns=self.rule.merge(self._stored, kept, scores))

    def map_keys(self, change: Move) -> Merged:
        """With the keys moved."""
        keys, values, own = self._stored.tensors
        return replace(self, columns=Columns((change(keys), values, own)))

    def select_batch(self, indices: Tensor) -> Merged:
        """Only the batch rows at `indices`."""
        return self if self.columns is None else replace(self, columns=self.columns.select(indices))

    @classmethod
    def stack(cls, rows: Sequence[Merged]) -> Merged:
        """One batch; rows with fewer units are padded at the front."""
        return replace(rows[0], columns=Columns.stack([row._stored for row in rows]))

    @property
    def _stored(self) -> Columns:
        assert self.columns is not None, "nothing is stored yet"
        return self.columns
