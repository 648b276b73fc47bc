"""What the terms of a pass depend on, and the units of measure they are made of."""

from __future__ import annotations

from dataclasses import dataclass

from locret.plan.kv import Pass
from locret.plan.sizes import Sizes
from locret.plan.storages import UnitBytes

FP32, INT32, INT64 = 4, 4, 8
Terms = dict[str, int]
"""Bytes by what they are for."""


@dataclass(frozen=True, slots=True)
class Work:
    """Everything that the terms of a pass depend on.

    Attributes:
        sizes: of the model.
        at: the pass.
        element: e, bytes of a number in the model's precision.
        unit: what a unit takes as it is stored.
        policy: name of what scores.
        width: d_R, hidden width of the retaining heads.
        compact: positions are compact.
        cuda: the kernels of a CUDA device, not of the CPU.
        slots: units that a buffer has room for, where units are held in place.
        folds: retaining heads are folded with the projections.
    """

    sizes: Sizes
    at: Pass
    element: int
    unit: UnitBytes
    policy: str
    width: int
    compact: bool
    cuda: bool
    slots: int = 0
    folds: bool = False

    def tokens(self, width: int) -> int:
        """Bytes of a tensor [T, width] in the model's precision."""
        return self.at.new * width * self.element

    def units(self, count: int, nbytes: int) -> int:
        """Bytes of a tensor [kv_heads, count] of numbers of `nbytes`."""
        return self.sizes.shapes.kv_heads * count * nbytes

    def dense(self, count: int) -> int:
        """Bytes of keys and values of `count` units in the model's precision."""
        return self.units(count, self.unit.dense)

    @property
    def moves(self) -> bool:
        """Whether keys have to be moved together for attention."""
        return self.compact and self.at.gaps

    @property
    def before(self) -> int:
        """Bytes of the layer's keys and values before the pass, or of their buffers."""
        if self.unit.in_place:
            return self.dense(self.slots) if self.at.stored else 0
        return self.sizes.shapes.kv_heads * self.unit.of(self.at.stored, evicted=self.at.evicted)

    @property
    def grown(self) -> int:
        """The same with the new units behind."""
        if self.unit.in_place:
            return self.dense(self.slots)
        return self.sizes.shapes.kv_heads * self.unit.of(self.at.units, self.at.new, self.at.evicted)

    @property
    def after(self) -> int:
        """The same after the pass."""
        if self.unit.in_place or not self.at.cuts:
            return self.grown
        return self.sizes.shapes.kv_heads * self.unit.of(self.at.kept, evicted=self.at.lost)

    @property
    def places(self) -> int:
        """Bytes of where an eviction moves units to, kept until the layer's next pass."""
        if not (self.unit.in_place and self.at.cuts):
            return 0
        return self.units(self.at.kept if self.compact else self.at.units - self.at.kept, INT32)
