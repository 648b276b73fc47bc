"""Recall: what a policy evicts goes to the host in blocks, and comes back for passes whose queries ask for it.

The kept units are seen by every pass, as with any policy. On top of them a pass sees, in every KV head, the blocks of
evicted units that answer its queries best. Recalled units are seen by that pass only: they are not kept again, so no
unit is ever there twice.

A block answers a query as well as the best of its representatives does, its largest q . k. By default all units of a
block are representatives, with a copy of their keys in 4 bits on the device: memory there grows by about a seventh of
what is evicted (with keys and values in 16 bits). Fewer representatives, chosen by the policy's scores, take less and
miss more (`docs/methods.md`): an evicted unit can only be found by what speaks for it. InfLLM's (arXiv 2402.04617) sum
over queries and representatives was worse still.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from locret.cache.codecs import Affine, Codec
from locret.cache.columns import Columns
from locret.cache.dynamic import Dynamic
from locret.cache.host_blocks import Blocks, asking, joined
from locret.cache.offloaded import CPU
from locret.cache.rotation import Move
from locret.cache.storage import register_storage
from locret.errors import LocretError
from locret.models.queries import Queries

BLOCKS_AT_ONCE = 64  # so many blocks' representatives are decoded at a time


@register_storage("recall")
@dataclass(frozen=True)
class Recall:
    """The kept units of one layer, and the evicted ones in blocks.

    Every head evicts other units, but as many; a block holds consecutive evictions of each head. Evicted units that do
    not fill a block yet are seen by every pass.

    Attributes:
        block: units of a block.
        top: blocks that a pass recalls.
        representatives: units that answer for a block, those of the highest scores; None for all.
        asked: queries that a pass chooses by, its last ones.
        codec: how representative keys are held.
        kept: the kept units, on the device.
        pending: keys, values and score (fp32, width 1) of evicted units that do not fill a block, in order of eviction.
        blocks: the other evicted units.
        index: coded keys of the representatives of every block, [batch, kv_heads, blocks * representatives, ...].
    """

    block: int = 128
    top: int = 16
    representatives: int | None = None
    asked: int = 64
    codec: Codec = field(default_factory=lambda: Affine(bits=4, group=64))
    kept: Dynamic = field(default_factory=Dynamic)
    pending: Columns | None = None
    blocks: Blocks = field(default_factory=Blocks)
    index: Columns | None = None
    takes_evicted: ClassVar[bool] = True
    moves_late: ClassVar[bool] = False
    stays_in_place: ClassVar[bool] = True

    @property
    def units(self) -> int:
        """Kept units per KV head; evicted ones are not counted."""
        return self.kept.units

    @property
    def nbytes(self) -> int:
        """Bytes on the device: kept and pending units, and the index."""
        columns = sum(part.nbytes for part in (self.pending, self.index) if part is not None)
        return self.kept.nbytes + self.blocks.nbytes + columns

    @property
    def offloaded_bytes(self) -> int:
        """Bytes of evicted units on the host."""
        return self.blocks.offloaded_bytes

    @property
    def visible(self) -> int:
        """Kept and pending units, and so many blocks."""
        pending = 0 if self.pending is None else self.pending.units
        return self.units + pending + min(len(self.blocks), self.top) * self.block

    def read(self) -> tuple[Tensor, Tensor]:
        """Keys and values of the kept units."""
        return self.kept.read()

    def recall(self, new: int, queries: Queries | None) -> tuple[Tensor, Tensor]:
        """Recalled blocks, then pending units, then the kept ones with the pass' own.

        Raises:
            LocretError: there are blocks to choose from, and the model's hooks are off.
        """
        parts = [self.read()]
        if self.pending is not None:
            parts.insert(0, self.pending.tensors[:2])  # type: ignore[arg-type]
        if len(self.blocks):
            parts.insert(0, self._fetch(self.choose(new, queries)))
        keys, values = zip(*parts, strict=True)
        return torch.cat(keys, dim=-2), torch.cat(values, dim=-2)

    def choose(self, new: int, queries: Queries | None) -> Tensor:
        """Which blocks a pass recalls in every KV head: indices [batch, kv_heads, recalled], ascending."""
        keys, _ = self.read()
        if len(self.blocks) <= self.top or self.index is None:
            return torch.arange(len(self.blocks), device="cpu").expand(*keys.shape[:2], -1)
        asked = asking(queries, min(self.asked, new), keys).flatten(2, 3)  # [batch, kv_heads, queries, head_dim]
        size, best = self.index.units // len(self.blocks), []
        for start in range(0, self.index.units, size * BLOCKS_AT_ONCE):
            part = self.index.between(start, min(start + size * BLOCKS_AT_ONCE, self.index.units))
            found = asked @ self.codec.decode(part.tensors, keys.shape[-1]).mT  # [batch, kv_heads, queries, units]
            best.append(found.amax(dim=2).unflatten(-1, (-1, size)).amax(dim=-1))
        return torch.cat(best, dim=-1).topk(self.top, dim=-1).indices.sort(dim=-1).values

    def append(self, keys: Tensor, values: Tensor) -> Recall:
        """With new units at the end of the kept ones."""
        return replace(self, kept=self.kept.append(keys, values))

    def gather(self, indices: Tensor) -> Recall:
        """Only the kept units at `indices` [batch, kv_heads, kept]; the others are gone, the evicted ones stay."""
        return replace(self, kept=self.kept.gather(indices))

    def evict(self, kept: Tensor, scores: Tensor) -> Recall:
        """Only the units at `kept`; the others can be recalled."""
        gone = torch.ones_like(scores, dtype=torch.bool).scatter(-1, kept, False)
        lost = gone.nonzero()[:, -1].view(*kept.shape[:-1], -1)  # [batch, kv_heads, evicted]; row-major, so ascending
        evicted = Columns((*self.kept.gather(lost).read(), scores.gather(-1, lost)[..., None].float()))
        pending = evicted if self.pending is None else self.pending.append(evicted)
        blocks, whole = self.blocks, pending.units // self.block * self.block
        index = [] if self.index is None else [self.index]
        for start in range(0, whole, self.block):
            keys, values, worth = pending.between(start, start + self.block).tensors
            blocks = blocks.append(keys, values)
            index.append(Columns(self.codec.encode(self._speakers(keys, worth[..., 0]))))
        columns = zip(*(part.tensors for part in index), strict=True)
        return replace(
            self,
            kept=self.kept.gather(kept),
            pending=pending.between(whole, pending.units),
            blocks=blocks,
            index=Columns(tuple(torch.cat(column, dim=-2) for column in columns)) if index else None,
        )

    def _speakers(self, keys: Tensor, scores: Tensor) -> Tensor:
        """Keys of a block's representatives, [batch, kv_heads, representatives, head_dim]; the older of equals."""
        if self.representatives is None:
            return keys
        best = scores.sort(dim=-1, descending=True, stable=True).indices[..., : self.representatives]
        return Columns((keys,)).gather(best).tensors[0]

    def map_keys(self, change: Move) -> Recall:
        """With the kept keys moved.

        Raises:
            LocretError: units have been evicted; they have no places among the others any more.
        """
        if self.pending is not None:
            raise LocretError("storage 'recall' needs positions=\"true\": evicted units have no compact positions")
        return replace(self, kept=self.kept.map_keys(change))

    def select_batch(self, indices: Tensor) -> Recall:
        """Only the batch rows at `indices`."""
        pending, index = (None if part is None else part.select(indices) for part in (self.pending, self.index))
        kept, blocks = self.kept.select_batch(indices), self.blocks.rows(indices)
        return replace(self, kept=kept, pending=pending, blocks=blocks, index=index)

    @classmethod
    def stack(cls, rows: Sequence[Recall]) -> Recall:
        """One batch; rows with fewer units are padded at the front.

        Raises:
            LocretError: units have been evicted.
        """
        if any(row.pending is not None for row in rows):
            raise LocretError(
                "storage 'recall' cannot read prompts of different lengths in one batch: read them one by one"
            )
        return replace(rows[0], kept=Dynamic.stack([row.kept for row in rows]))

    def _fetch(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Chosen units of every head, put together on the host, so that one copy brings them to the device."""
        like = self.read()[0]
        pieces = {i: self.blocks.pieces[i].fetch(CPU) for i in set(chosen.flatten().tolist())}
        rows = []
        for row, heads in enumerate(chosen.tolist()):
            own = [
                [(pieces[i][0][row, head], pieces[i][1][row, head]) for i in blocks]
                for head, blocks in enumerate(heads)
            ]
            rows.append(joined(own))  # [kv_heads, recalled units, head_dim] each
        keys, values = (torch.stack(column) for column in zip(*rows, strict=True))
        return keys.to(like.device), values.to(like.device)


def make_recall(
    *, block: int = 128, top: int = 16, representatives: int | None = None, asked: int = 64, bits: int = 4
) -> Callable[[], Recall]:
    """A maker of empty storages with other parameters (see `Recall`), for `BudgetCache(storage=...)`.

    Raises:
        LocretError: a parameter is too small, or keys cannot be held in so many bits (2, 4 or 8).
    """
    for name, value in {"block": block, "top": top, "representatives": representatives, "asked": asked}.items():
        if value is not None and value < 1:
            raise LocretError(f"recall's {name} is {value}: give at least 1")
    if bits not in (2, 4, 8):
        raise LocretError(f"recall's bits are {bits}: choose 2, 4 or 8")
    return lambda: Recall(block, top, representatives, asked, Affine(bits, group=64))
