"""Phi-3's `prepare_inputs_for_generation` throws the cache away where LongRoPE's factors switch; ours must stay."""

from __future__ import annotations

import functools
from typing import Any

from torch import nn
from transformers import GenerationMixin

PREPARE = "prepare_inputs_for_generation"


def keep_cache_across_switch(model: nn.Module) -> None:
    """Give this one model a preparation that leaves budgeted caches alone; others go through its class' own.

    The factors are frozen for a budgeted run (`locret.models.rope`), so nothing has to be read again.
    """
    own: Any = getattr(type(model), PREPARE)

    @functools.wraps(own)
    def prepare(input_ids: Any, past_key_values: Any = None, **kwargs: Any) -> Any:
        plain = GenerationMixin.prepare_inputs_for_generation if getattr(past_key_values, "is_budgeted", False) else own
        return plain(model, input_ids, past_key_values=past_key_values, **kwargs)

    model.__dict__[PREPARE] = prepare
