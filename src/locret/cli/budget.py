"""The budget of one prompt, from the options."""

from __future__ import annotations

import os
import re
from typing import cast

from locret.cache.budget import Budget, Positions
from locret.models.checkpoint import load_config

BUILTIN = Budget(size=1024, chunk=1024, stabilizers=32, local=32)
SMOLLM2 = Budget(size=1024, chunk=512, local=32, pin_first=4, pin_newest=512)  # docs/real-models.md
PAPER = Budget(size=6000, chunk=3072, stabilizers=2500, local=100)  # Phi-3-mini-128K in arXiv 2410.01805
SMOLLM2_NAME = "smollm2-135m"  # how its names on the hub begin, in lower case
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

    Open values give way to given ones. Open stabilizers take at most half of what pins of the first leave, an open
    local tail at most a quarter of the size. Open pins of the newest, where the model has some, go by the size
    (`newest_of`), and leave a fifth of what pins of the first leave.

    Raises:
        LocretError: a value is out of range.
    """
    base = measured_for(model)
    units = base.size if size is None else size
    room = max(units, 0)
    first = _limited(pin_first, base.pin_first, room // 4, room - max(stabilizers or 0, pin_newest or 0))
    steady = _limited(stabilizers, base.stabilizers, (room - first) // 2, room - (local or 0))
    tail = _limited(local, base.local, room // 4, room - steady)
    newest = _limited(pin_newest, newest_of(room) if base.pin_newest else 0, 4 * (room - first) // 5)
    return Budget(
        size=units,
        chunk=base.chunk if chunk is None else chunk,
        stabilizers=steady,
        local=tail,
        positions=cast(Positions, positions),  # Budget refuses what is not a mode
        decode_budget=decode_budget,
        decode_every=decode_every,
        pin_first=first,
        pin_newest=newest,
    )


def least_size(stabilizers: int | None, local: int | None, pin_first: int | None, pin_newest: int | None) -> int:
    """The smallest size that makes a budget of these values; open ones need none."""
    return max(1, (stabilizers or 0) + (local or 0), (pin_first or 0) + max(stabilizers or 0, pin_newest or 0))


def newest_of(size: int) -> int:
    """The newest units that are pinned where some are: half of the size, but 96 where 32 others are left beside them.

    Text that goes on looks at what was just read, and with fewer than about a hundred such units it loses more than
    chosen ones give (docs/real-models.md). Below 128 units all but 32 are pinned, or half.
    """
    return max(size // 2, min(96, size - 32))


def _limited(given: int | None, wanted: int, *limits: int) -> int:
    """A given value as it is; an open one as far as the limits go."""
    return max(0, min(wanted, *limits)) if given is None else given


def measured_for(model: str) -> Budget:
    """The budget that was measured for a model, under whatever name it is here, or else the paper's.

    What is here goes by its shape. A name on the hub goes by the name, as nothing is fetched for a budget.

    Raises:
        LocretError: the model is here and damaged, or of no supported family.
    """
    if model == "builtin":
        return BUILTIN
    if model == "smollm2":
        return SMOLLM2
    if os.path.exists(model):  # noqa: PTH110 - Path.exists raises where a name is too long
        config = load_config(model)
        same = all(getattr(config, name, None) == size for name, size in SMOLLM2_SHAPE.items())
    else:
        same = any(part.startswith(SMOLLM2_NAME) for part in re.split("[/:]", model.lower()))
    return SMOLLM2 if same else PAPER
