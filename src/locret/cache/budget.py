"""The budget: how much is kept, and how the prompt is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from locret.errors import LocretError

Positions = Literal["true", "compact"]
LONGEST = 1 << 30  # tokens of a prompt that anything here reckons with
POSITIONS: tuple[str, ...] = ("true", "compact")


@dataclass(frozen=True, slots=True)
class Budget:
    """How a prompt is read in fixed memory (the method of arXiv 2410.01805).

    The last `local` prompt tokens come on top of `size`: after a prompt, `size + local` units a KV head are stored.
    Stabilizers, and what is pinned, are part of `size`.

    Attributes:
        size: units kept per KV head after every chunk.
        chunk: tokens read at once.
        stabilizers: the newest units that every chunk but the last keeps unconditionally.
        local: the last prompt tokens, read at the end and never evicted.
        pin_first: the prompt's first units, which no cut evicts, whatever the policy (attention sinks,
            arXiv 2309.17453).
        pin_newest: newest units that no cut ranks, the last one of a prompt and those of an answer included.
        positions: "true": every unit keeps its position in the prompt, which must fit the model's window;
            "compact": the kept units are moved together (keys re-rotated), so no position ever exceeds
            size + chunk and the prompt may be of any length. While an answer is evicted from, gaps stay until the next
            position would exceed that.
        decode_budget: units kept on top of `size + local` while an answer is written; None keeps all of the answer.
        decode_every: tokens of the answer between two evictions; so many units more are held before each.
    """

    size: int
    chunk: int = 1024
    stabilizers: int = 0
    local: int = 0
    positions: Positions = "true"
    decode_budget: int | None = None
    decode_every: int = 1
    pin_first: int = 0
    pin_newest: int = 0

    def __post_init__(self) -> None:
        leasts = {"size": 1, "chunk": 1, "stabilizers": 0, "local": 0, "decode_every": 1}
        leasts |= {"pin_first": 0, "pin_newest": 0}
        if self.decode_budget is not None:
            leasts["decode_budget"] = 0
        for name, least in leasts.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise LocretError(f"budget {name} is {value!r}: give a whole number of at least {least}")
            if not least <= value <= LONGEST:
                raise LocretError(f"budget {name} is {value}: give at least {least}, at most {LONGEST}")
        if self.size < self.stabilizers + self.local:
            raise LocretError(
                f"budget size is {self.size}, less than stabilizers + local = {self.stabilizers} + {self.local} = "
                f"{self.stabilizers + self.local}: raise the size or lower these two"
            )
        newest = max(self.stabilizers, self.pin_newest)
        if self.size < self.pin_first + newest:
            raise LocretError(
                f"budget size is {self.size}, less than the units kept in any case, "
                f"pin_first = {self.pin_first} and the newest {newest}: raise the size or lower these"
            )
        if self.positions not in POSITIONS:
            raise LocretError(f"budget positions is {self.positions!r}: choose one of {', '.join(POSITIONS)}")

    @property
    def decode_size(self) -> int | None:
        """Units kept while an answer is written; None for all of them."""
        return None if self.decode_budget is None else self.size + self.local + self.decode_budget
