"""InfLLM's parameters, and how they shrink with a budget."""

from __future__ import annotations

import math
from dataclasses import dataclass

from locret.errors import LocretError

LEAST_BLOCK, LEAST_INIT = 16, 4


@dataclass(frozen=True, slots=True)
class Sizes:
    """InfLLM's parameters; the defaults are the paper's for models of 8B (with Phi-3 Locret's paper has local=2048).

    Attributes:
        init: first units, which every pass sees.
        local: newest units, which every pass sees.
        block: units of a block.
        top: blocks that a pass recalls.
        representatives: keys that answer for a block.
        resident: blocks that stay on a CUDA device, the last ones used.
    """

    init: int = 128
    local: int = 4096
    block: int = 128
    top: int = 16
    representatives: int = 4
    resident: int = 32

    def __post_init__(self) -> None:
        for name, least in {"init": 0, "local": 1, "block": 1, "top": 1, "representatives": 1, "resident": 0}.items():
            if getattr(self, name) < least:
                raise LocretError(f"infllm's {name} is {getattr(self, name)}: give at least {least}")

    @property
    def visible(self) -> int:
        """Units of the past that a pass sees at most: with all that is named, one short of a block not filled yet."""
        return self.init + self.local + (self.top + 1) * self.block - 1

    @classmethod
    def within(cls, units: int) -> Sizes:
        """The paper's proportions in so many units of the past, all of which a pass may see (`visible`).

        The paper's 128 first units, 16 blocks of 128 and 4096 newest units are 1/49, 16/49 and 32/49 of what is seen.
        First units and blocks do not grow beyond that. Below, a block is the power of two nearest to 1/49, of 16 units
        at least, so that about 16 blocks are recalled as long as that goes; of first units (attention sinks) there are
        at least 4. The local window takes what is left. Twice the blocks of a pass stay on a CUDA device.

        Raises:
            LocretError: there is no room for a block beside the others.
        """
        paper = cls()
        whole = paper.init + paper.top * paper.block + paper.local
        share = units / whole
        if int(share * paper.top * paper.block) < LEAST_BLOCK:
            least = math.ceil(LEAST_BLOCK / (paper.top * paper.block) * whole)
            raise LocretError(
                f"infllm sees first units, recalled blocks and newest units, and a budget of {units} has no room for "
                f"them all: give at least {least}"
            )
        nearest = 2 ** round(math.log2(share * paper.block))
        block = min(max(nearest, LEAST_BLOCK), paper.block)
        init = min(max(int(share * paper.init), LEAST_INIT), paper.init)
        top = int(share * paper.top * paper.block) // block
        local = units - init - (top + 1) * block + 1
        return cls(init, local, block, top, min(paper.representatives, block), 2 * top)
