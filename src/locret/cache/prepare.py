"""What `generate` prepares a pass with, and a budgeted cache has to know: where the prompt ends.

A prompt that comes whole, by `model.generate` without `prefill_chunk_size`, is read like one of `Engine`, whatever its
length; of a pass that is no longer than a chunk the cache itself could not tell.

Phi-3's own preparation throws the cache away where LongRoPE's factors switch. The factors are held for a budgeted run
(`locret.models.rope`), so nothing has to be read again, and the general preparation is the right one.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import GenerationMixin

from locret.models.rope import switch_point

PREPARE = "prepare_inputs_for_generation"
WHOLE = "next_sequence_length"  # transformers names it for prompts that come whole, not for their chunks


class Preparation:
    """The preparation of one model: its class' own, but for what is said above."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @property
    def __wrapped__(self) -> Any:
        """What transformers reads the accepted arguments off."""
        return getattr(type(self.model), PREPARE)

    def __call__(self, input_ids: Any, past_key_values: Any = None, **kwargs: Any) -> Any:
        """The arguments of the next pass."""
        budgeted = getattr(past_key_values, "is_budgeted", False)
        switches = switch_point(self.model.config) is not None
        prepare = GenerationMixin.prepare_inputs_for_generation if budgeted and switches else self.__wrapped__
        inputs = prepare(self.model, input_ids, past_key_values=past_key_values, **kwargs)
        if budgeted and kwargs.get("is_first_iteration") and WHOLE in kwargs:
            coming = inputs["input_ids"] if inputs.get("inputs_embeds") is None else inputs["inputs_embeds"]
            past_key_values.expect_turn(coming.shape[1])
        return inputs


def prepare_here(model: nn.Module) -> None:
    """Give this one model such a preparation, if it can generate."""
    if hasattr(type(model), PREPARE):
        model.__dict__[PREPARE] = Preparation(model)


def restore(model: nn.Module) -> None:
    """Its class' own again."""
    model.__dict__.pop(PREPARE, None)
