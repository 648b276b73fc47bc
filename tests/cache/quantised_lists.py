"""A quantised storage as plain lists of units, written from the documented contract alone."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor

from locret.cache.rotation import Rotation


def coded(vector: Tensor, bits: int) -> Tensor:
    """One vector [channels] after asymmetric min/max quantisation in one group."""
    low, high = vector.min().half().float(), vector.max().half().float()
    step = (high - low) / (2**bits - 1)
    if step == 0:
        return low.expand_as(vector)
    return low + ((vector - low) / step).round().clamp(0, 2**bits - 1) * step


@dataclass
class Unit:
    key: Tensor
    value: Tensor
    moved: Tensor = field(default_factory=lambda: torch.tensor(0))
    packed: bool = False

    def pack(self, bits: int) -> None:
        if not self.packed:
            self.key, self.value, self.packed = coded(self.key, bits), coded(self.value, bits), True


@dataclass
class NaiveQuantised:
    """For each (row, head), the list of its units."""

    bits: int
    window: int
    units: dict[tuple[int, int], list[Unit]] = field(default_factory=dict)

    def fork(self) -> NaiveQuantised:
        return copy.deepcopy(self)

    def _pack_all_but(self, dense: int) -> None:
        for listed in self.units.values():
            for unit in listed[: max(0, len(listed) - dense)]:
                unit.pack(self.bits)

    def append(self, keys: Tensor, values: Tensor) -> None:
        self._pack_all_but(self.window)  # what came before; the new ones stay as they are
        for row in range(len(keys)):
            for head in range(keys.shape[1]):
                new = [Unit(*pair) for pair in zip(keys[row, head], values[row, head], strict=True)]
                self.units.setdefault((row, head), []).extend(new)

    def gather(self, indices: Tensor) -> None:
        runs = []
        for (row, head), listed in self.units.items():
            self.units[row, head] = [copy.copy(listed[at]) for at in indices[row, head].tolist()]
            run = 0
            while run < indices.shape[-1] and not self.units[row, head][-1 - run].packed:
                run += 1
            runs.append(run)
        self._pack_all_but(min(*runs, self.window))

    def move(self, delta: Tensor) -> None:
        for (row, head), listed in self.units.items():
            for unit, by in zip(listed, delta[row, head], strict=True):
                unit.moved = unit.moved + by

    def read(self, rotation: Rotation) -> tuple[Tensor, Tensor]:
        rows, heads = (1 + max(places) for places in zip(*self.units, strict=True))
        own = [self.units[row, head] for row in range(rows) for head in range(heads)]
        keys, values, moved = (
            torch.stack([torch.stack([getattr(unit, part) for unit in listed]) for listed in own])
            for part in ("key", "value", "moved")
        )
        return rotation.rotate(keys, moved).unflatten(0, (rows, heads)), values.unflatten(0, (rows, heads))
