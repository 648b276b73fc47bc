"""Makers of LoCoCo's storage: each layer of a model gets its own trained convolution."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from locret.cache.convolved import Convolution
from locret.cache.merged import Merged
from locret.cache.storage import register_storage
from locret.errors import LocretError
from locret.models.checkpoint import BUILTIN
from locret.models.families import attention_modules
from locret.models.merger import Merger
from locret.models.placement import device_of


@functools.cache
def builtin_merger() -> Merger:
    """The built-in model's merger."""
    return Merger.from_pretrained(BUILTIN / "merger")


@dataclass(frozen=True)
class LoCoCo:
    """The maker of empty storages: called, it gives one that cannot evict; `for_model` gives those of a model's layers.

    Attributes:
        merger: the trained convolutions; None for those of the built-in model.
        slots: memory slots of a KV head; None for an eighth of what is kept.
    """

    merger: Merger | None = None
    slots: int | None = None

    def __call__(self) -> Merged:
        """An empty storage without a convolution."""
        return Merged(Convolution(slots=self.slots))

    def for_model(self, model: nn.Module) -> list[Callable[[], Merged]]:
        """A maker for every layer.

        Raises:
            LocretError: there is no trained merger for this model.
        """
        merger = builtin_merger() if self.merger is None else self.merger
        try:
            merger.check_fits(model)
        except LocretError as error:
            if self.merger is not None:
                raise
            raise LocretError(
                "storage 'lococo' comes with a merger for the built-in model only: train one for this model "
                "(python -m recipes.merger --help), and give Engine storage=make_lococo(merger)"
            ) from error
        weights = [
            weight.detach().to(device_of(module))
            for weight, module in zip(merger.layers, attention_modules(model), strict=True)
        ]
        return [functools.partial(Merged, Convolution(weight, self.slots)) for weight in weights]


def make_lococo(merger: Merger | str | Path | None = None, *, slots: int | None = None) -> LoCoCo:
    """A maker of empty storages with a merger of your own, for `BudgetCache(storage=...)`.

    Args:
        merger: trained, or the folder it was saved in; None for the built-in model's.
        slots: memory slots of a KV head, at most as many as the merger has; None for an eighth of what is kept.

    Raises:
        LocretError: the folder holds no merger, or there are not so many slots.
    """
    if isinstance(merger, (str, Path)):
        merger = Merger.from_pretrained(merger)
    most = (builtin_merger() if merger is None else merger).config.slots
    if slots is not None and not 1 <= slots <= most:
        raise LocretError(f"lococo's slots are {slots}: this merger has 1 to {most}")
    return LoCoCo(merger, slots)


register_storage("lococo")(LoCoCo())
