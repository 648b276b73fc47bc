"""A recorded reading: what a layer's storage was given, pass by pass, so that another storage can be given the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import Tensor

from locret.cache.dynamic import Dynamic
from locret.cache.rotation import Move
from locret.models.queries import Queries


@dataclass(frozen=True)
class Pass:
    """New units with their queries: keys and values [1, kv_heads, new, head_dim], queries [1, q_heads, new, head_dim].

    Queries are rotated and scaled, so that their products with the keys are the attention's logits.
    """

    keys: Tensor
    values: Tensor
    queries: Tensor


@dataclass(frozen=True)
class Cut:
    """An eviction, as `Storage.evict` is told of it."""

    kept: Tensor
    scores: Tensor


@dataclass(frozen=True)
class Recorder:
    """Dynamic storage that notes every pass and cut in a log, which all storages that come of it share."""

    log: list[Pass | Cut] = field(default_factory=list)
    held: Dynamic = field(default_factory=Dynamic)
    moves_late: ClassVar[bool] = True

    @property
    def units(self) -> int:
        return self.held.units

    @property
    def nbytes(self) -> int:
        return self.held.nbytes

    @property
    def visible(self) -> int:
        return self.held.visible

    def read(self) -> tuple[Tensor, Tensor]:
        return self.held.read()

    def recall(self, new: int, queries: Queries | None) -> tuple[Tensor, Tensor]:
        keys, values = self.read()
        assert queries is not None, "the model's hooks are on"
        self.log.append(Pass(keys[..., -new:, :].clone(), values[..., -new:, :].clone(), queries(new)))
        return keys, values

    def append(self, keys: Tensor, values: Tensor) -> Recorder:
        return replace(self, held=self.held.append(keys, values))

    def gather(self, indices: Tensor) -> Recorder:
        return replace(self, held=self.held.gather(indices))

    def evict(self, kept: Tensor, scores: Tensor) -> Recorder:
        self.log.append(Cut(kept, scores))
        return self.gather(kept)

    def map_keys(self, change: Move) -> Recorder:
        return replace(self, held=self.held.map_keys(change))

    def select_batch(self, indices: Tensor) -> Recorder:
        return replace(self, held=self.held.select_batch(indices))

    @classmethod
    def stack(cls, rows: Sequence[Recorder]) -> Recorder:
        return replace(rows[0], held=Dynamic.stack([row.held for row in rows]))


@dataclass
class Recorders:
    """A maker of recorders; `logs` has one for every layer, in order."""

    logs: list[list[Pass | Cut]] = field(default_factory=list)

    def __call__(self) -> Recorder:
        return Recorder([])

    def for_model(self, model: object) -> Sequence[Callable[[], Recorder]]:
        layers = model.config.get_text_config(decoder=True).num_hidden_layers  # type: ignore[attr-defined]
        self.logs[:] = [[] for _ in range(layers)]
        return [lambda log=log: Recorder(log) for log in self.logs]  # type: ignore[misc]
