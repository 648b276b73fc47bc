"""The budget of one prompt, from the options."""

from __future__ import annotations

from typing import cast

from locret.cache.budget import Budget, Positions

BUILTIN = Budget(size=1024, chunk=1024, stabilizers=32, local=32)
PAPER = Budget(size=6000, chunk=3072, stabilizers=2500, local=100)  # Phi-3-mini-128K in arXiv 2410.01805


def prompt_budget(
    model: str,
    size: int | None,
    chunk: int | None,
    stabilizers: int | None,
    local: int | None,
    positions: str,
    decode_budget: int | None = None,
    decode_every: int = 1,
) -> Budget:
    """A budget whose open values are those of the built-in model, or the paper's for any other.

    Open stabilizers and an open local tail take at most half and a quarter of the size.

    Raises:
        LocretError: a value is out of range.
    """
    base = BUILTIN if model == "builtin" else PAPER
    units = base.size if size is None else size
    return Budget(
        size=units,
        chunk=base.chunk if chunk is None else chunk,
        stabilizers=min(base.stabilizers, max(units, 0) // 2) if stabilizers is None else stabilizers,
        local=min(base.local, max(units, 0) // 4) if local is None else local,
        positions=cast(Positions, positions),  # Budget refuses what is not a mode
        decode_budget=decode_budget,
        decode_every=decode_every,
    )
