"""Blocks of units on the host, and the queries that they are chosen by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from locret.cache.columns import Columns
from locret.cache.offloaded import CPU, HostMemory, Piece
from locret.errors import LocretError
from locret.models.queries import Queries


@dataclass(frozen=True)
class Blocks:
    """Blocks of one layer, oldest first. A value; the blocks themselves are never changed.

    Attributes:
        pieces: keys and values of each, [batch, kv_heads, size, head_dim].
        device: where they are used.
    """

    pieces: tuple[Piece, ...] = ()
    device: torch.device = CPU

    def __len__(self) -> int:
        return len(self.pieces)

    @property
    def nbytes(self) -> int:
        """Bytes on the device: none, unless that is the host."""
        return sum(piece.nbytes for piece in self.pieces if piece.device == self.device)

    @property
    def offloaded_bytes(self) -> int:
        """Bytes that are not on the device."""
        return sum(piece.nbytes for piece in self.pieces if piece.device != self.device)

    def append(self, keys: Tensor, values: Tensor) -> Blocks:
        """With one more block."""
        return Blocks((*self.pieces, HostMemory().put(keys, values, keys.device)), keys.device)

    def rows(self, indices: Tensor) -> Blocks:
        """Only the batch rows at `indices`."""
        chosen = (Columns(piece.fetch(CPU)).select(indices).tensors for piece in self.pieces)
        return Blocks(tuple(HostMemory().put(keys, values, self.device) for keys, values in chosen), self.device)


def asking(queries: Queries | None, last: int, like: Tensor) -> Tensor:
    """The newest queries by the KV head that they share: [batch, kv_heads, group, last, head_dim], fp32.

    Args:
        queries: as `recall` is given them.
        last: how many.
        like: keys [batch, kv_heads, units, head_dim], whose device is taken.

    Raises:
        LocretError: the model's hooks are off.
    """
    if queries is None:
        raise LocretError("the model's hooks are off, so there are no queries to recall by: call locret.attach(model)")
    return queries(last).to(like.device).unflatten(1, (like.shape[1], -1))


def joined(groups: Sequence[Sequence[tuple[Tensor, Tensor]]]) -> tuple[Tensor, Tensor]:
    """Keys and values of every group one after the other, and the groups stacked.

    Shapes: in [..., units, head_dim] each; out [groups, ..., all units of a group, head_dim] each.
    """
    keys, values = (
        torch.stack([torch.cat([pair[part] for pair in group], dim=-2) for group in groups]) for part in (0, 1)
    )
    return keys, values
