"""Selection on the CPU: values can be looked at there, so it takes fewer and smaller steps than on a device.

Results are those of `locret.policies.selection`, which see for the arguments.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def keep_mask(scores: Tensor, size: int, newest: int, positions: Tensor | None, recent: int = 0) -> Tensor:
    """Which `size` units to keep, fewer than there are, the `newest` (at most `size`) in any case."""
    units = scores.shape[-1]
    values = scores.detach().float().numpy().reshape(-1, units)
    ages = None if positions is None else positions.numpy().reshape(-1, units)
    pinned: Any = np.s_[:, units - newest :] if ages is None or newest <= recent else _newest(ages, newest)
    parted, best = values.copy(), units - size - 1
    parted[pinned] = np.inf
    parted.partition(best)
    lost = parted[:, best, None]  # of each head the best score that goes
    keep = values > lost
    keep[pinned] = True
    worst = parted[:, best + 1 :].min(axis=-1)  # that stays
    for head in np.flatnonzero(worst == lost[:, 0]):  # they are equal: the oldest stay
        equal = np.flatnonzero((values[head] == lost[head]) > keep[head])  # and not kept
        oldest = equal if ages is None else equal[np.argsort(ages[head, equal])]
        keep[head, oldest[: size - np.count_nonzero(keep[head])]] = True
    return torch.from_numpy(keep).view(scores.shape)


def ascending(keep: Tensor, size: int) -> Tensor:
    """The units that are kept, ascending."""
    return torch.from_numpy(np.flatnonzero(keep.numpy()) % keep.shape[-1]).view(*keep.shape[:-1], size)


def _newest(ages: NDArray[np.int32], newest: int) -> NDArray[np.bool_]:
    first = ages.shape[-1] - newest
    return ages >= np.partition(ages, first)[:, first, None]
