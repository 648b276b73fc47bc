"""Rotary frequencies of every layer, and LongRoPE's two sets of them held fast for a whole run.

LongRoPE (arXiv 2402.13753, the Phi-3 models) has short factors for prompts up to the original window and long ones
beyond. Transformers chooses anew in every forward pass, by the largest position in it, so the keys of a prompt that is
read in chunks would not fit together: here the choice is made once, by the length of the whole run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from locret.models.families import attention_modules, decoder_of, text_config
from locret.models.refusals import layer_kinds

FROZEN = "frozen"  # a type that transformers' update of the frequencies passes over


def switch_point(config: Any) -> int | None:
    """The length beyond which LongRoPE takes its long factors; None for a model without LongRoPE."""
    parameters = getattr(text_config(config), "rope_parameters", None) or {}
    if parameters.get("rope_type") != "longrope":
        return None
    return int(parameters["original_max_position_embeddings"])


@dataclass(frozen=True)
class LongRope:
    """The two sets of inverse frequencies, [rotary_dim / 2] each, and the length beyond which the long one is right."""

    point: int
    short: Tensor
    long: Tensor

    @classmethod
    def of(cls, model: nn.Module) -> LongRope | None:
        """Those of `model`; None for a model without LongRoPE."""
        point = switch_point(model.config)
        if point is None:
            return None
        rotary: Any = decoder_of(model).rotary_emb
        long, _ = ROPE_INIT_FUNCTIONS["longrope"](rotary.config, rotary.inv_freq.device, seq_len=point + 1)
        return cls(point, rotary.original_inv_freq.detach().clone(), long)

    def choose(self, length: int | None) -> Tensor:
        """The set for a run of `length` tokens; the long one, which is made for any, if the length is unknown."""
        return self.long if length is None or length > self.point else self.short


def freeze(decoder: nn.Module, frequencies: Tensor) -> None:
    """Make the decoder's rotary embedding use `frequencies` whatever the positions, until `thaw`."""
    rotary: Any = decoder.rotary_emb
    rotary.rope_type = FROZEN
    with torch.no_grad():
        rotary.inv_freq.copy_(frequencies)


def thaw(decoder: nn.Module) -> None:
    """Let transformers choose again; without `freeze` before it nothing happens."""
    rotary: Any = getattr(decoder, "rotary_emb", None)
    if getattr(rotary, "rope_type", None) == FROZEN:
        rotary.rope_type = "longrope"


def layer_frequencies(model: nn.Module) -> list[Tensor]:
    """Inverse frequencies [rotary_dim / 2], fp32, of every layer; empty for a layer without rotary embedding."""
    rotary: Any = decoder_of(model).rotary_emb
    text = text_config(model.config)
    kinds = getattr(text, "layer_types", None) or layer_kinds(text)
    found = []
    for kind, module in zip(kinds, attention_modules(model), strict=True):
        own = getattr(rotary, f"{kind}_inv_freq", None)
        frequencies: Tensor = rotary.inv_freq if own is None else own
        # SmolLM3's attention modules say so where a layer has no rotary embedding.
        rotates = getattr(module, "use_rope", True)
        found.append(frequencies.detach().float() if rotates else torch.zeros(0, device=frequencies.device))
    return found
