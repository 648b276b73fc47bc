"""The budget: how much is kept, and how the prompt is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from locret.errors import LocretError

Positions = Literal["true", "compact"]
POSITIONS: tuple[str, ...] = ("true", "compact")


@dataclass(frozen=True, slots=True)
class Budget:
    """How a prompt is read in fixed memory (the method of arXiv 2410.01805).

    The last `local` prompt tokens come on top of `size`: after a prompt, `size + local` units a KV head are stored.

    Attributes:
        size: units kept per KV head after every chunk.
        chunk: tokens read at once.
        stabilizers: the newest units that every chunk but the last keeps unconditionally.
        local: the last prompt tokens, read at the end and never evicted.
        positions: "true": every unit keeps its position in the prompt, which must fit the model's window;
            "compact": the kept units are moved together (keys re-rotated), so no position ever exceeds
            size + chunk and the prompt may be of any length.
    """

    size: int
    chunk: int = 1024
    stabilizers: int = 0
    local: int = 0
    positions: Positions = "true"

    def __post_init__(self) -> None:
        for name, least in (("size", 1), ("chunk", 1), ("stabilizers", 0), ("local", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise LocretError(f"budget {name} is {value!r}: give a whole number of at least {least}")
            if value < least:
                raise LocretError(f"budget {name} is {value}: give at least {least}")
        if self.size < self.stabilizers + self.local:
            raise LocretError(
                f"budget size is {self.size}, less than stabilizers + local = {self.stabilizers} + {self.local} = "
                f"{self.stabilizers + self.local}: raise the size or lower these two"
            )
        if self.positions not in POSITIONS:
            raise LocretError(f"budget positions is {self.positions!r}: choose one of {', '.join(POSITIONS)}")
