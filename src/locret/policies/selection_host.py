"""Selection on the CPU: values can be looked at there, so it takes fewer and smaller steps than on a device.

Results are those of `locret.policies.selection`, which see for the arguments.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def has_values(tensor: Tensor) -> bool:
    """Whether values can be looked at without waiting: on the CPU, but for tensors that only pretend to have any."""
    return tensor.device.type == "cpu" and type(tensor) is Tensor


def keep_mask(scores: Tensor, size: int, newest: int, positions: Tensor | None) -> Tensor:
    """Which `size` units to keep, fewer than there are, the `newest` (at most `size`) in any case."""
    units = scores.shape[-1]
    values = scores.detach().float().numpy().reshape(-1, units)
    ages = None if positions is None else positions.numpy().reshape(-1, units)
    pinned = _newest(values, ages, newest)
    values = np.where(pinned, np.inf, values)
    best = units - size - 1
    lost = np.partition(values, best)[:, best, None]  # of each head the best score that goes
    keep = (values > lost) | pinned
    for head in np.flatnonzero(keep.sum(axis=-1) < size):  # others have that score, too: the oldest of them stay
        equal = np.flatnonzero((values[head] == lost[head]) & ~keep[head])
        oldest = equal if ages is None else equal[np.argsort(ages[head, equal])]
        keep[head, oldest[: size - keep[head].sum()]] = True
    return torch.from_numpy(keep).view(scores.shape)


def ascending(keep: Tensor, size: int) -> Tensor:
    """The units that are kept, ascending."""
    return torch.from_numpy(np.flatnonzero(keep.numpy()) % keep.shape[-1]).view(*keep.shape[:-1], size)


def select_slots(keep: Tensor, size: int) -> Tensor:
    """The units that are kept, in slot order."""
    units = keep.shape[-1]
    mask = keep.numpy().reshape(-1, units)
    slots = np.tile(np.arange(size, dtype=np.int64), (len(mask), 1))
    gaps, comes = np.flatnonzero(~mask[:, :size]), np.flatnonzero(mask[:, size:])  # a head has as many of either
    slots.reshape(-1)[gaps] = comes % max(units - size, 1) + size
    return torch.from_numpy(slots).view(*keep.shape[:-1], size)


def _newest(values: NDArray[np.float32], ages: NDArray[np.int32] | None, newest: int) -> NDArray[np.bool_]:
    first = values.shape[-1] - newest
    if ages is None or not newest:
        return np.broadcast_to(np.arange(values.shape[-1]) >= first, values.shape)
    return ages >= np.partition(ages, first)[:, first, None]
