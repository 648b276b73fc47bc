"""Phi-3's `prepare_inputs_for_generation` throws the cache away where LongRoPE's factors switch; ours must stay."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import GenerationMixin

PREPARE = "prepare_inputs_for_generation"


class KeepsCache:
    """A preparation that leaves budgeted caches alone; others go through the own one of the model's class.

    The factors are held for a budgeted run (`locret.models.rope`), so nothing has to be read again.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @property
    def __wrapped__(self) -> Any:
        """What transformers reads the accepted arguments off."""
        return getattr(type(self.model), PREPARE)

    def __call__(self, input_ids: Any, past_key_values: Any = None, **kwargs: Any) -> Any:
        """The arguments of the next pass."""
        budgeted = getattr(past_key_values, "is_budgeted", False)
        prepare = GenerationMixin.prepare_inputs_for_generation if budgeted else self.__wrapped__
        return prepare(self.model, input_ids, past_key_values=past_key_values, **kwargs)


def keep_cache_across_switch(model: nn.Module) -> None:
    """Give this one model such a preparation."""
    model.__dict__[PREPARE] = KeepsCache(model)


def restore(model: nn.Module) -> None:
    """Its class' own again."""
    model.__dict__.pop(PREPARE, None)
