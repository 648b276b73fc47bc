"""Dense storage: keys and values in the model's own precision, in buffers that are written in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from locret.cache.buffer import Buffer, Change, Part
from locret.cache.changes import Compact, Turn, taken
from locret.cache.dynamic import Dynamic
from locret.cache.room import Room
from locret.cache.rotation import Move
from locret.cache.storage import register_storage
from locret.models.queries import Queries


@register_storage("dense")
@dataclass(frozen=True, eq=False)
class Dense:
    """A part of a buffer of keys and one of values; None while empty.

    Appending writes behind the units, and evicting moves kept units into evicted places, both in the same buffer for
    as long as nobody else sees what is overwritten; a fork gets a buffer of its own when it first evicts, or when
    another has written where it goes on. The buffer has slots for what the cache expects to hold (`Room`); where that
    is not known or does not suffice, it is replaced by one a quarter larger. `nbytes` counts units, not slots.

    What `read` gives are views: they show other units as soon as the cache has gone on. With autograd on, nothing is
    written in place.

    Attributes:
        part: what is seen of the buffers.
        room: how many slots new buffers are to have.
    """

    part: Part | None = None
    room: Room = field(default_factory=Room)
    moves_late: ClassVar[bool] = True
    fills_gaps: ClassVar[bool] = True

    @property
    def units(self) -> int:
        """Stored units per KV head."""
        return 0 if self.part is None else self.part.units

    @property
    def nbytes(self) -> int:
        """Bytes of the units; the slots behind them are not counted."""
        return 0 if self.part is None else self.part.units * self.part.buffer.unit_bytes

    def read(self) -> tuple[Tensor, Tensor]:
        """Views of both buffers."""
        return self._stored.read()

    @property
    def visible(self) -> int:
        """All of them."""
        return self.units

    def recall(self, new: int, queries: Queries | None) -> tuple[Tensor, Tensor]:
        """Views of both buffers."""
        return self.read()

    def with_room(self, room: Room) -> Dense:
        """The same units; buffers that are made from now on are of this size."""
        return self if room == self.room else Dense(self.part, room)

    def append(self, keys: Tensor, values: Tensor) -> Dense:
        """With new units at the end."""
        slots = self.room.of(self.units + keys.shape[-2])
        if self.part is not None:
            return Dense(self.part.append(keys, values, slots), self.room)
        buffer = Buffer.empty(keys, values, slots)
        buffer.write(0, keys, values)
        return Dense(Part(buffer, keys.shape[-2]), self.room)

    def first(self, count: int) -> Dense:
        """Only the first units."""
        keys, _ = self.read()  # what is due moves them
        return Dense(Part(self._stored.buffer, min(count, keys.shape[-2])), self.room)

    def gather(self, indices: Tensor) -> Dense:
        """Only the units at `indices` [batch, kv_heads, kept], in that order; in buffers of their own."""
        self.read()
        buffer = self._stored.buffer
        made = Buffer(taken(buffer.keys, indices), taken(buffer.values, indices))
        return Dense(Part(made, indices.shape[-1]), self.room)

    def evict(self, kept: Tensor, scores: Tensor) -> Dense:
        """Only the units at `kept`, in their order; the others are gone."""
        return self._changed(Compact(kept.int(), self.units))

    def fill(self, gaps: Change) -> Dense:
        """With evicted units' slots taken by kept ones from beyond; most units stay where they are."""
        return self._changed(gaps)

    def map_keys(self, change: Move) -> Dense:
        """With the keys moved."""
        return self._changed(Turn(change, self.units))

    def select_batch(self, indices: Tensor) -> Dense:
        """Only the batch rows at `indices`, in buffers of their own."""
        return self if self.part is None else self._holding(Dynamic(*self.read()).select_batch(indices))

    @classmethod
    def stack(cls, rows: Sequence[Dense]) -> Dense:
        """One batch; rows with fewer units are padded at the front."""
        return rows[0]._holding(Dynamic.stack([Dynamic(*row.read()) for row in rows]))

    @property
    def _stored(self) -> Part:
        assert self.part is not None, "nothing is stored yet"
        return self.part

    def _changed(self, due: Change) -> Dense:
        stored = self._stored
        if stored.due is not None:
            stored.read()  # one change at a time
        return Dense(Part(stored.buffer, due.leaves, due), self.room)

    def _holding(self, units: Dynamic) -> Dense:
        keys, values = units.read()
        return Dense(Part(Buffer(keys, values), units.units), self.room)
