"""Storage off the device: kept units lie in host memory or in files, and come to the device layer by layer.

Units are held in pieces that are never changed, so forks share them. A pass' own units stay on the device until the
next pass or cut, as their attention needs them there at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from locret.cache.dynamic import Dynamic
from locret.cache.rotation import Move
from locret.cache.storage import register_storage
from locret.models.queries import Queries

CPU = torch.device("cpu")


class Piece(Protocol):
    """Some consecutive units of one layer, held somewhere; never changed."""

    @property
    def units(self) -> int:
        """Units per KV head."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""
        ...

    @property
    def device(self) -> torch.device | None:
        """The device whose memory holds them; None for none."""
        ...

    def fetch(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Keys and values on `device`, [batch, kv_heads, units, head_dim] each; not to be changed."""
        ...


class Place(Protocol):
    """Where pieces are put."""

    def put(self, keys: Tensor, values: Tensor, device: torch.device) -> Piece:
        """Hold a copy of these units; they will be fetched to `device`."""
        ...


@dataclass(frozen=True, eq=False)
class HostPiece:
    """Units in host memory."""

    keys: Tensor
    values: Tensor

    @property
    def units(self) -> int:
        """Units per KV head."""
        return self.keys.shape[-2]

    @property
    def nbytes(self) -> int:
        """Bytes of both tensors."""
        return self.keys.nbytes + self.values.nbytes

    @property
    def device(self) -> torch.device:
        """The host."""
        return self.keys.device

    def fetch(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Copies, or the tensors themselves where the model runs on the host."""
        return self.keys.to(device, non_blocking=True), self.values.to(device, non_blocking=True)


@dataclass(frozen=True)
class HostMemory:
    """Host memory, pinned where units go to a CUDA device."""

    def put(self, keys: Tensor, values: Tensor, device: torch.device) -> HostPiece:
        """Copy units to the host. Always a copy: a view would keep a larger tensor alive."""
        pinned = device.type == "cuda"
        held = (
            torch.empty(part.shape, dtype=part.dtype, device="cpu", pin_memory=pinned).copy_(part)
            for part in (keys, values)
        )
        return HostPiece(*held)


@register_storage("offloaded")
@dataclass(frozen=True)
class Offloaded:
    """Units in pieces elsewhere; while a layer computes, its units are on the device, and only its.

    Where the model runs on the CPU, host memory is the device: nothing is offloaded, and `nbytes` counts everything.

    Attributes:
        place: where pieces are put.
        pieces: the units, in order.
        fresh: keys and values of the latest pass, on the device, [batch, kv_heads, new, head_dim] each.
        device: where the units are used.
    """

    place: Place = HostMemory()
    pieces: tuple[Piece, ...] = ()
    fresh: tuple[Tensor, Tensor] | None = None
    device: torch.device = CPU
    moves_late: ClassVar[bool] = True

    @property
    def units(self) -> int:
        """Stored units per KV head, wherever they are."""
        return sum(piece.units for piece in self.pieces) + (0 if self.fresh is None else self.fresh[0].shape[-2])

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        fresh = sum(part.nbytes for part in self.fresh or ())
        return fresh + sum(piece.nbytes for piece in self.pieces if piece.device == self.device)

    @property
    def offloaded_bytes(self) -> int:
        """Bytes held elsewhere."""
        return sum(piece.nbytes for piece in self.pieces if piece.device != self.device)

    def read(self) -> tuple[Tensor, Tensor]:
        """All keys and values, on the device.

        Raises:
            LocretError: a file with some of them cannot be read.
        """
        parts = [piece.fetch(self.device) for piece in self.pieces]
        parts += [] if self.fresh is None else [self.fresh]
        assert parts, "nothing is stored yet"
        if len(parts) == 1:
            return parts[0]
        keys, values = zip(*parts, strict=True)
        return torch.cat(keys, dim=-2), torch.cat(values, dim=-2)

    @property
    def visible(self) -> int:
        """All of them."""
        return self.units

    def recall(self, new: int, queries: Queries | None) -> tuple[Tensor, Tensor]:
        """All keys and values, on the device."""
        return self.read()

    def append(self, keys: Tensor, values: Tensor) -> Offloaded:
        """With new units at the end; those of the pass before leave the device.

        Raises:
            LocretError: a file could not be written.
        """
        return replace(self, pieces=self._pieces(), fresh=(keys.clone(), values.clone()), device=keys.device)

    def gather(self, indices: Tensor) -> Offloaded:
        """Only the units at `indices` [batch, kv_heads, kept]; all of them leave the device."""
        return self._holding(Dynamic(*self.read()).gather(indices))

    def evict(self, kept: Tensor, scores: Tensor) -> Offloaded:
        """Only the units at `kept`; the others are gone."""
        return self.gather(kept)

    def map_keys(self, change: Move) -> Offloaded:
        """With the keys moved."""
        return self._holding(Dynamic(*self.read()).map_keys(change))

    def select_batch(self, indices: Tensor) -> Offloaded:
        """Only the batch rows at `indices`."""
        return self._holding(Dynamic(*self.read()).select_batch(indices)) if self.units else self

    @classmethod
    def stack(cls, rows: Sequence[Offloaded]) -> Offloaded:
        """One batch, held where the first row is; rows with fewer units are padded at the front."""
        return rows[0]._holding(Dynamic.stack([Dynamic(*row.read()) for row in rows]))

    def _holding(self, units: Dynamic) -> Offloaded:
        keys, values = units.read()
        if not keys.shape[-2]:
            return replace(self, pieces=(), fresh=(keys, values))
        return replace(self, pieces=(self.place.put(keys, values, self.device),), fresh=None)

    def _pieces(self) -> tuple[Piece, ...]:
        """The pieces with the fresh units among them.

        Pieces are joined as a binary counter carries: there are few, and no unit is copied often, though decoding adds
        one unit at a time.
        """
        if self.fresh is None:
            return self.pieces
        pieces, joined, units = list(self.pieces), [self.fresh], self.fresh[0].shape[-2]
        while pieces and pieces[-1].units <= units:
            last = pieces.pop()
            joined.insert(0, last.fetch(CPU))
            units += last.units
        keys, values = zip(*joined, strict=True)
        if len(joined) == 1:
            return (*pieces, self.place.put(keys[0], values[0], self.device))
        all_keys, all_values = (torch.cat([part.to(CPU) for part in column], dim=-2) for column in (keys, values))
        return (*pieces, self.place.put(all_keys, all_values, self.device))
