"""Buffers: memory for keys and values that several values look at, and that is written in place where none can tell.

A `Part` is what one value sees of a buffer: its first slots. Older parts see fewer slots, so a new unit may be written
behind all of them, as into a Go slice. A slot that some part sees is written only if that part is the sole one alive;
otherwise the units are copied to a buffer of their own first.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol
from weakref import WeakSet

import torch
from torch import Tensor

_lock = threading.RLock()  # over all claims: answers to one session may be written in several threads


class Buffer:
    """Slots for the units of one layer.

    Attributes:
        keys, values: [batch, kv_heads, slots, head_dim] each, contiguous.
        parts: who sees some of the slots and is alive.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys.contiguous(), values.contiguous()
        self.parts: WeakSet[Part] = WeakSet()

    @classmethod
    def empty(cls, keys: Tensor, values: Tensor, slots: int) -> Buffer:
        """A buffer of so many slots for units like these, which stay where they are."""
        return cls(*(like.new_empty(*like.shape[:2], slots, like.shape[-1]) for like in (keys, values)))

    @property
    def slots(self) -> int:
        """How many units there is room for."""
        return self.keys.shape[-2]

    @property
    def unit_bytes(self) -> int:
        """Bytes of one slot in all heads and rows."""
        return sum(part.nbytes // self.slots for part in (self.keys, self.values)) if self.slots else 0

    @property
    def writable(self) -> bool:
        """Autograd needs old contents, and inference tensors cannot be written outside of inference mode."""
        frozen = self.keys.is_inference() and not torch.is_inference_mode_enabled()
        return not (frozen or self.keys.requires_grad or self.values.requires_grad)

    def between(self, start: int, end: int) -> tuple[Tensor, Tensor]:
        """Keys and values of some slots, as views."""
        return self.keys[..., start:end, :], self.values[..., start:end, :]

    def write(self, start: int, keys: Tensor, values: Tensor) -> None:
        """Put units into the slots from `start` on."""
        for slots, units in zip(self.between(start, start + keys.shape[-2]), (keys, values), strict=True):
            slots.copy_(units)


class Change(Protocol):
    """What is to happen to the units of a part; in place, or on their way to another buffer.

    Attributes:
        reads: slots that are read.
        leaves: units that there are afterwards.
    """

    @property
    def reads(self) -> int:
        """See above."""
        ...

    @property
    def leaves(self) -> int:
        """See above."""
        ...

    def carry_out(self, source: Buffer, target: Buffer) -> None:
        """Put the changed units into `target`, which may be `source` and has `reads` slots at least."""
        ...


class Part:
    """The first slots of a buffer. It always shows the same units; only where they are may change.

    A change is carried out when somebody looks, not when it is asked for: the attention of the pass under way may
    still have to read what is in the way.

    Attributes:
        buffer: where the units are.
        units: how many, after the change that is due.
        due: that change; None for none.
    """

    def __init__(self, buffer: Buffer, units: int, due: Change | None = None) -> None:
        self.buffer, self.units, self.due = buffer, units, due
        with _lock:
            buffer.parts.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled or copied it has a buffer of its own."""
        keys, values = self.read()
        return _alone, (keys.clone(), values.clone())

    @property
    def reach(self) -> int:
        """Slots that nobody else may write."""
        return self.units if self.due is None else self.due.reads

    def read(self) -> tuple[Tensor, Tensor]:
        """Keys and values as views of the buffer: they show other units once the cache has gone on."""
        self._settle(0)
        return self.buffer.between(0, self.units)

    def append(self, keys: Tensor, values: Tensor, slots: int) -> Part:
        """The part with new units behind: in the same buffer if they fit there and nobody else has written there.

        Args:
            keys, values: [batch, kv_heads, new, head_dim] each.
            slots: how many a new buffer is to have, if there has to be one.
        """
        with _lock:
            self._settle(slots)
            end, buffer = self.units + keys.shape[-2], self.buffer
            seen = self.units if len(buffer.parts) == 1 else max(part.reach for part in buffer.parts)
            if end > buffer.slots or seen > self.units or not buffer.writable:
                buffer = Buffer.empty(*self.buffer.between(0, 0), slots)
                buffer.write(0, *self.buffer.between(0, self.units))
            grown = Part(buffer, end)  # from here on the slots are taken
        buffer.write(self.units, keys, values)
        return grown

    def _settle(self, slots: int) -> None:
        """Carry out what is due; where a new buffer is needed for that it has at least `slots`."""
        with _lock:
            if self.due is None:
                return
            source = target = self.buffer
            if not source.writable or len(source.parts) > 1:
                target = Buffer.empty(*source.between(0, 0), max(slots, self.due.reads))
            self.due.carry_out(source, target)
            if target is not source:
                source.parts.discard(self)
                target.parts.add(self)
            self.buffer, self.due = target, None


def _alone(keys: Tensor, values: Tensor) -> Part:
    return Part(Buffer(keys, values), keys.shape[-2])
