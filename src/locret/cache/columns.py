"""Tensors that hold something for every stored unit, and that go through every change of a storage together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True)
class Columns:
    """A value: every method that changes something returns a new one, which holds no more memory than it shows.

    Attributes:
        tensors: [batch, kv_heads, units, width] each; the widths and dtypes may differ.
    """

    tensors: tuple[Tensor, ...]

    @property
    def units(self) -> int:
        """Units per KV head."""
        return self.tensors[0].shape[-2]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors)

    def append(self, other: Columns) -> Columns:
        """With the units of `other` at the end."""
        return Columns(tuple(torch.cat(both, dim=-2) for both in zip(self.tensors, other.tensors, strict=True)))

    def between(self, start: int, end: int) -> Columns:
        """Only the units from `start` to before `end`; cloned, as a view would keep the others alive."""
        return Columns(tuple(tensor[..., start:end, :].clone() for tensor in self.tensors))

    def gather(self, indices: Tensor) -> Columns:
        """Only the units at `indices` [batch, kv_heads, kept], in that order."""
        return Columns(
            tuple(
                tensor.gather(-2, indices[..., None].expand(*indices.shape, tensor.shape[-1]))
                for tensor in self.tensors
            )
        )

    def select(self, rows: Tensor) -> Columns:
        """Only the batch rows at `rows`, which may repeat."""
        return Columns(tuple(tensor.index_select(0, rows.to(tensor.device)) for tensor in self.tensors))

    @classmethod
    def stack(cls, rows: Sequence[Columns]) -> Columns:
        """One batch; rows with fewer units are padded with zeros at the front."""
        longest = max(row.units for row in rows)
        return cls(
            tuple(
                torch.cat([pad(tensor, (0, 0, longest - tensor.shape[-2], 0)) for tensor in column])
                for column in zip(*(row.tensors for row in rows), strict=True)
            )
        )
