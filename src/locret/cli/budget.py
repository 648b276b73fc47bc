"""The budget of one prompt, from the options."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from locret.cache.budget import Budget, Positions
from locret.models.checkpoint import load_config

BUILTIN = Budget(size=1024, chunk=1024, stabilizers=32, local=32)
SMOLLM2 = Budget(size=1024, chunk=512, local=32, pin_first=4, pin_newest=512)  # docs/real-models.md
PAPER = Budget(size=6000, chunk=3072, stabilizers=2500, local=100)  # Phi-3-mini-128K in arXiv 2410.01805
SMOLLM2_SHAPE = {"model_type": "llama", "num_hidden_layers": 30, "hidden_size": 576, "vocab_size": 49152}


def prompt_budget(
    model: str,
    size: int | None,
    chunk: int | None,
    stabilizers: int | None,
    local: int | None,
    positions: str,
    decode_budget: int | None = None,
    decode_every: int = 1,
    pin_first: int | None = None,
    pin_newest: int | None = None,
) -> Budget:
    """A budget whose open values are those measured for a model that comes with heads, or the paper's for any other.

    Open stabilizers take at most half of the size, an open local tail at most a quarter. Open pins of the newest, where
    the model has some, go by the size: see `newest_of`.

    Raises:
        LocretError: a value is out of range.
    """
    base = measured_for(model)
    units = base.size if size is None else size
    return Budget(
        size=units,
        chunk=base.chunk if chunk is None else chunk,
        stabilizers=min(base.stabilizers, max(units, 0) // 2) if stabilizers is None else stabilizers,
        local=min(base.local, max(units, 0) // 4) if local is None else local,
        positions=cast(Positions, positions),  # Budget refuses what is not a mode
        decode_budget=decode_budget,
        decode_every=decode_every,
        pin_first=min(base.pin_first, max(units, 0) // 4) if pin_first is None else pin_first,
        pin_newest=(newest_of(max(units, 0)) if base.pin_newest else 0) if pin_newest is None else pin_newest,
    )


def newest_of(size: int) -> int:
    """The newest units that are pinned where some are: half of the size, but 96 if these are no more than 3/4 of it.

    Text that goes on looks at what was just read, and with fewer than about a hundred such units it loses more than
    chosen ones give (docs/real-models.md).
    """
    return max(size // 2, min(96, 3 * size // 4))


def measured_for(model: str) -> Budget:
    """The budget that was measured for a model, under whatever name it is here, or else the paper's.

    Raises:
        LocretError: the model is here and damaged, or of no supported family.
    """
    if model == "builtin":
        return BUILTIN
    if model == "smollm2":
        return SMOLLM2
    config = load_config(model) if Path(model).exists() else None
    same = config is not None and all(getattr(config, name, None) == size for name, size in SMOLLM2_SHAPE.items())
    return SMOLLM2 if same else PAPER
