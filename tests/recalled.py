"""What passes really saw: the units that a storage recalled, told by their keys, as a reading for the yardstick."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.gold import Pass, Reading


@contextmanager
def recorded_recalls(kind: type, layers: list[int]) -> Iterator[Reading]:
    """Note, for every pass, at which positions the units are that storages of this class give to attention.

    Every key is a mark of its position, by its rotation, and is never changed.

    Args:
        kind: the class.
        layers: the layers with such a storage; they take turns.
    """
    reading = Reading("true")
    read: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    calls = 0
    recall = kind.recall

    def noting(self: Any, new: int, queries: Any) -> tuple[Tensor, Tensor]:
        nonlocal calls
        shown, values = recall(self, new, queries)
        layer = layers[calls % len(layers)]
        calls += 1
        begin = sum(part.shape[-2] for part in read[layer])
        read[layer].append(shown[..., -new:, :].clone())
        whole = torch.cat(read[layer], dim=-2)  # [batch, kv_heads, seen, head_dim]
        same = (shown[..., :-new, None, :] == whole[:, :, None]).all(-1)  # [batch, kv_heads, visible, seen]
        assert (same.sum(-1) == 1).all(), "a unit that was never read, or two that cannot be told apart"
        if layer == layers[0]:
            reading.passes.append(Pass(begin, begin + new, {} if begin else None))
        kept = reading.passes[-1].kept
        if kept is not None:
            kept[layer] = same.int().argmax(-1)
        return shown, values

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "recall", noting)
        yield reading
