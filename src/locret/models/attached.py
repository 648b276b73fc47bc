"""Hooks that are put on a model once, and taken off again.

Their handles lie on the decoder itself, so that a copy of the model (`copy.deepcopy`, pickle) knows of the hooks that
were copied with it. Hooks have to be functions or methods of module level for that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from torch import nn
from torch.utils.hooks import RemovableHandle

from locret.models.families import decoder_of

HANDLES = "_locret_handles"

_attaching = threading.Lock()


def attach_once(model: nn.Module, what: str, register: Callable[[], Iterable[RemovableHandle]]) -> None:
    """Call `register`, which puts hooks on `model`, unless hooks of that name are there."""
    with _attaching:
        handles = decoder_of(model).__dict__.setdefault(HANDLES, {})
        if what not in handles:
            handles[what] = list(register())


def is_attached(model: nn.Module, what: str) -> bool:
    """Whether hooks of that name are on `model`."""
    return what in decoder_of(model).__dict__.get(HANDLES, {})


def take_off(model: nn.Module, what: str) -> None:
    """Take the hooks of that name off `model`; without them nothing happens."""
    with _attaching:
        for handle in decoder_of(model).__dict__.get(HANDLES, {}).pop(what, []):
            handle.remove()
