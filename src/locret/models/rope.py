"""Rotary frequencies of every layer, and LongRoPE's two sets of them held fast for a whole run.

LongRoPE (arXiv 2402.13753, the Phi-3 models) has short factors for prompts up to the original window and long ones
beyond. Transformers chooses anew in every forward pass, by the largest position in it, so the keys of a prompt that is
read in chunks would not fit together: here the choice is made once, by the length of the whole run, and told to the
thread that makes the pass. The model itself is not touched, so that other passes, at the same time too, choose for
themselves.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from locret.models.families import attention_modules, decoder_of, text_config
from locret.models.refusals import layer_kinds


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


class _Held(threading.local):
    """The frequencies of this thread's pass, by the id of the rotary embedding; nothing where transformers chooses."""

    def __init__(self) -> None:
        self.frequencies: dict[int, Tensor] = {}


_held = _Held()


def hold(decoder: nn.Module, frequencies: Tensor | None) -> None:
    """Say what the decoder's rotary embedding uses from now on in this thread, whatever the positions.

    Args:
        decoder: of a model with LongRoPE, whose rotary embedding has the hook `use_held`; others do not ask.
        frequencies: inverse ones, [rotary_dim / 2]; None leaves the choice to transformers.
    """
    if frequencies is not None:
        _held.frequencies[id(decoder.rotary_emb)] = frequencies
    elif _held.frequencies:
        _held.frequencies.pop(id(decoder.rotary_emb), None)


def use_held(rotary: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> tuple[Tensor, Tensor] | None:
    """A forward hook of a rotary embedding: cosines and sines [batch, tokens, rotary_dim] of what is held."""
    frequencies = _held.frequencies.get(id(rotary))
    if frequencies is None:
        return None
    hidden, positions = (*args, *(kwargs[name] for name in ("x", "position_ids") if name in kwargs))
    angles = positions[..., None].float() * frequencies.to(device=positions.device, dtype=torch.float32)
    angles = torch.cat([angles, angles], dim=-1)
    cos, sin = angles.cos() * rotary.attention_scaling, angles.sin() * rotary.attention_scaling
    return cos.to(hidden.dtype), sin.to(hidden.dtype)


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
