"""Quantised storages: older units in 8, 4 or 2 bits, the newest in the model's precision (KIVI, arXiv 2402.02750).

A unit is quantised once in its life, from what the model computed: evictions gather codes, and moved keys (compact
positions) stay in the rotation that they arrived in, beside the number of positions that they have to be moved by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from locret.cache.codecs import Affine, Codec, Float8
from locret.cache.columns import Columns
from locret.cache.rotation import Move, Rotation
from locret.cache.storage import register_storage
from locret.models.queries import Queries

RESIDUAL = 128  # as in KIVI and in transformers' quantised caches


@dataclass(frozen=True)
class Quantised:
    """Packed units, then the residual: the newest ones, dense.

    What a pass appends stays dense until the pass is over, so that it attends to its own keys and values exactly. What
    is beyond `window` is packed by the next eviction, or else by the next `append`.

    Heads evict different units, but the residual has to be as long in all of them. So of the kept units it holds the
    longest run at the end that comes from the residual in every head and row, at most `window`; older ones are packed,
    a little early in heads that kept more of them.

    Attributes:
        codec: how units are packed.
        window: units of the residual.
        packed: coded keys, then coded values; None while nothing is stored, as the next two.
        residual: keys and values in the model's precision.
        moved: [batch, kv_heads, units] int32, by how many positions each key is yet to be moved; None for none.
        rotation: how keys are moved, where they are.
    """

    codec: Codec
    window: int = RESIDUAL
    packed: Columns | None = None
    residual: Columns | None = None
    moved: Columns | None = None
    rotation: Rotation | None = None
    moves_late: ClassVar[bool] = False  # moving is an addition here

    @property
    def units(self) -> int:
        """Packed units and those of the residual."""
        return 0 if self.residual is None else self._packed.units + self.residual.units

    @property
    def nbytes(self) -> int:
        """Bytes of codes, scales, residual and positions to be moved by."""
        return sum(part.nbytes for part in (self.packed, self.residual, self.moved) if part is not None)

    def read(self) -> tuple[Tensor, Tensor]:
        """All keys and values in the model's precision, decoded for this call."""
        recent_keys, recent_values = self._residual.tensors
        coded, half = self._packed.tensors, len(self._packed.tensors) // 2
        values = self.codec.decode(coded[half:], recent_values.shape[-1]).to(recent_values.dtype)
        keys = self.codec.decode(coded[:half], recent_keys.shape[-1])
        if self.moved is None or self.rotation is None:
            keys = torch.cat([keys.to(recent_keys.dtype), recent_keys], dim=-2)
        else:
            everything = torch.cat([keys, recent_keys.float()], dim=-2)  # in fp32, so as to round once
            keys = self.rotation.rotate(everything, self.moved.tensors[0][..., 0]).to(recent_keys.dtype)
        return keys, torch.cat([values, recent_values], dim=-2)

    @property
    def visible(self) -> int:
        """All of them."""
        return self.units

    def recall(self, new: int, queries: Queries | None) -> tuple[Tensor, Tensor]:
        """All keys and values; the pass' own `new` ones are exact."""
        return self.read()

    def append(self, keys: Tensor, values: Tensor) -> Quantised:
        """With new units at the end of the residual."""
        new = Columns((keys, values))
        if self.residual is None:
            own = new.between(0, new.units)
            return replace(self, packed=self._encode(new.between(0, 0)), residual=own)
        settled = self._with_residual(self.window)
        moved = None if self.moved is None else self.moved.append(_not_moved(keys, keys.shape[-2]))
        return replace(settled, residual=settled._residual.append(new), moved=moved)

    def gather(self, indices: Tensor) -> Quantised:
        """Only the units at `indices` [batch, kv_heads, kept], in that order; no packed one is decoded."""
        packed = self._packed
        recent = (indices >= packed.units).all(dim=0).all(dim=0)  # [kept]
        dense = min(int(recent.flip(0).int().cumprod(0).sum()), self.window)
        older, newest = indices.split([indices.shape[-1] - dense, dense], dim=-1)
        return replace(
            self,
            packed=packed.append(self._encode(self._residual)).gather(older),
            residual=self._residual.gather(newest - packed.units),
            moved=None if self.moved is None else self.moved.gather(indices),
        )

    def evict(self, kept: Tensor, scores: Tensor) -> Quantised:
        """Only the units at `kept`; the others are gone."""
        return self.gather(kept)

    def map_keys(self, change: Move) -> Quantised:
        """With the keys moved: noted now, done by `read`, so that moving any number of times costs no precision."""
        added = Columns((change.delta.to(torch.int32)[..., None],))
        moved = added if self.moved is None else Columns((self.moved.tensors[0] + added.tensors[0],))
        return replace(self, moved=moved, rotation=change.rotation)

    def select_batch(self, indices: Tensor) -> Quantised:
        """Only the batch rows at `indices`."""
        if self.residual is None:
            return self
        moved = None if self.moved is None else self.moved.select(indices)
        return replace(self, packed=self._packed.select(indices), residual=self.residual.select(indices), moved=moved)

    @classmethod
    def stack(cls, rows: Sequence[Quantised]) -> Quantised:
        """One batch with the shortest residual; rows with fewer units are padded at the front of the packed part."""
        dense = min(row._residual.units for row in rows)
        rows = [row._with_residual(dense) for row in rows]
        rotation = next((row.rotation for row in rows if row.rotation is not None), None)
        moves = [row.moved or _not_moved(row._residual.tensors[0], row.units) for row in rows]
        return replace(
            rows[0],
            packed=Columns.stack([row._packed for row in rows]),
            residual=Columns.stack([row._residual for row in rows]),
            moved=None if rotation is None else Columns.stack(moves),
            rotation=rotation,
        )

    @property
    def _packed(self) -> Columns:
        assert self.packed is not None, "nothing is stored yet"
        return self.packed

    @property
    def _residual(self) -> Columns:
        assert self.residual is not None, "nothing is stored yet"
        return self.residual

    def _with_residual(self, dense: int) -> Quantised:
        """With only the newest `dense` units in the residual, if there are more."""
        residual = self._residual
        overflow = residual.units - dense
        if overflow <= 0:
            return self
        packed = self._packed.append(self._encode(residual.between(0, overflow)))
        return replace(self, packed=packed, residual=residual.between(overflow, residual.units))

    def _encode(self, dense: Columns) -> Columns:
        keys, values = dense.tensors
        return Columns((*self.codec.encode(keys), *self.codec.encode(values)))


def _not_moved(like: Tensor, units: int) -> Columns:
    return Columns((torch.zeros(*like.shape[:2], units, 1, dtype=torch.int32, device=like.device),))


# Errors and bytes of these choices: docs/storages.md.
register_storage("quant8")(partial(Quantised, Affine(bits=8)))
register_storage("quant4")(partial(Quantised, Affine(bits=4, group=64)))
register_storage("quant2")(partial(Quantised, Affine(bits=2, group=32)))
register_storage("fp8")(partial(Quantised, Float8()))
