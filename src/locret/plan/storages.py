"""What a unit takes in a storage: the storage itself is asked, so that a new one needs no line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from locret.cache.offloaded import HostPiece
from locret.cache.storage import Storage, Trained, get_storage, in_place

DENSE = "dense"
PROBE = 8192  # units; more than any storage keeps near or in the model's precision


@dataclass(frozen=True, slots=True)
class UnitBytes:
    """What the key and the value of one token take in one KV head.

    Fractions are shared by several units. Bytes of host memory are elsewhere, unless the model runs on the CPU.

    Attributes:
        dense: bytes in the model's precision.
        near: on the device, for the newest units.
        packed: on the device, for the older ones.
        recent: how many the newest are.
        beside: beside each stored unit: how far a packed key is yet to be moved.
        elsewhere: not on the device, for each older unit.
        gone: on the device, for each evicted unit that can be recalled.
        gone_elsewhere: not on the device, for such a unit.
        coded: units are decoded on their way to attention.
        copied: attention gets a copy of what is stored.
        most: so many stored units a pass sees at most; None for all.
        recalled: so many evicted units it sees at most besides.
        in_place: units are in buffers that are made once and written in place.
    """

    dense: int
    near: float
    packed: float
    recent: int = 0
    beside: int = 0
    elsewhere: float = 0.0
    gone: float = 0.0
    gone_elsewhere: float = 0.0
    coded: bool = False
    copied: bool = False
    most: int | None = None
    recalled: int = 0
    in_place: bool = False

    def of(self, units: int, fresh: int = 0, evicted: int = 0) -> int:
        """Bytes on the device of so many stored units.

        Args:
            units: how many.
            fresh: how many of them came with the latest pass and are not packed before the next.
            evicted: how many more have been evicted.
        """
        recent = self._near(units, fresh)
        held = recent * self.near + (units - recent) * self.packed + evicted * self.gone
        return round(held) + units * self.beside

    def away(self, units: int, fresh: int = 0, evicted: int = 0) -> int:
        """Bytes elsewhere of the same units."""
        return round((units - self._near(units, fresh)) * self.elsewhere + evicted * self.gone_elsewhere)

    def shown(self, units: int, evicted: int = 0) -> int:
        """Units that attention is given of them."""
        return (units if self.most is None else min(units, self.most)) + min(evicted, self.recalled)

    @property
    def exact(self) -> bool:
        """Attention is given the tensors that are stored."""
        return not self.copied

    def _near(self, units: int, fresh: int) -> int:
        return fresh + min(units - fresh, self.recent)


def unit_bytes(
    head_dim: int, dtype: torch.dtype, storage: str | Callable[[], Storage] = DENSE, cuda: bool = True
) -> UnitBytes:
    """Ask a storage what a unit takes: it is filled and evicted from, and its own counts of bytes are read.

    Args:
        head_dim, dtype: of the model.
        storage: a registered name, or a maker of empty storages.
        cuda: on a CUDA device, not on the CPU.

    Raises:
        LocretError: unknown storage.
    """
    maker = get_storage(storage) if isinstance(storage, str) else storage
    one = torch.zeros(1, 1, 1, head_dim, dtype=dtype)
    few, many = (_filled(maker(), one, units) for units in (PROBE, 2 * PROBE))
    (held, away), (held_more, away_more) = _bytes(few, cuda), _bytes(many, cuda)
    near, packed = _bytes(maker().append(one, one), cuda)[0], (held_more - held) / PROBE
    # The newest is held in another way until the next pass, which `fresh` is for.
    recent = 0 if packed == near else max(round((held - PROBE * packed) / (near - packed)) - 1, 0)
    pieces = _host_bytes(few) + getattr(few, "offloaded_bytes", 0) > 0
    coded = not pieces and packed < 2 * one.nbytes
    kept, evicted = _evicted(maker, one)
    gone = _bytes(evicted, cuda)
    return UnitBytes(
        dense=2 * one.nbytes,
        near=near,
        packed=packed,
        recent=recent,
        elsewhere=(away_more - away) / PROBE,
        gone=(gone[0] - _bytes(kept, cuda)[0]) / PROBE,
        gone_elsewhere=(gone[1] - _bytes(kept, cuda)[1]) / PROBE,
        coded=coded,
        copied=coded or pieces or bool(_host_bytes(evicted)),
        most=many.visible if many.visible < many.units else None,
        recalled=evicted.visible - evicted.units,
        in_place=in_place(few) is not None,
    )


def _filled(storage: Storage, one: Tensor, units: int) -> Storage:
    """With so many units. The last comes alone, as some storages pack what they hold when the next units come."""
    most = one.expand(1, 1, units - 1, one.shape[-1])
    return storage.append(most, most).append(one, one)


def _evicted(maker: Callable[[], Storage], one: Tensor) -> tuple[Storage, Storage]:
    """The same storage with units that have been evicted, some and twice as many.

    A storage with trained weights cannot evict without them; none of these holds anything of evicted units.
    """
    found = []
    for units in (PROBE, 2 * PROBE):
        storage = maker()
        if getattr(storage, "takes_evicted", False) and not isinstance(maker, Trained):
            storage = _filled(storage, one, units + 1).evict(
                torch.zeros(1, 1, 1, dtype=torch.long), torch.zeros(1, 1, units + 1)
            )
        else:
            storage = storage.append(one, one)
        found.append(storage)
    return found[0], found[1]


def _bytes(storage: Storage, cuda: bool) -> tuple[int, int]:
    """Bytes on the device and elsewhere. Asked on the CPU, a storage takes host memory for the device."""
    away = getattr(storage, "offloaded_bytes", 0)
    moved = _host_bytes(storage) if cuda else 0
    return storage.nbytes - moved, away + moved


def _host_bytes(value: Any) -> int:
    """Bytes of all units in host memory that a storage is made of."""
    if isinstance(value, HostPiece):
        return value.nbytes
    if is_dataclass(value):
        return sum(_host_bytes(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, Mapping):
        return 0  # copies of pieces
    return sum(map(_host_bytes, value)) if isinstance(value, tuple) else 0
