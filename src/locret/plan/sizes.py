"""What the formulas need to know of a model, read off its configuration; no weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from locret.errors import LocretError, first_line
from locret.models.families import (
    Shapes,
    attention_modules,
    budgeted_layers,
    decoder_of,
    family_of,
    shapes_of,
    text_config,
)
from locret.models.rope import layer_frequencies
from locret.plan.weights import Weights, count_weights


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a model.

    Attributes:
        shapes: of its attention.
        hidden: width of the hidden states.
        mlp: width inside the MLP of a layer, or inside one expert.
        vocabulary: entries of the output layer.
        rotary: rotated dimensions of a head.
        window: tokens that a layer with a sliding window sees; 0 where there is none.
        window_layers: how many layers have one.
        max_length: positions that the model knows.
        experts: experts that a token is sent to; 0 for a plain MLP.
        fused_attention: q, k and v come out of one projection, and stay in memory together.
        fused_mlp: gate and up come out of one projection.
        normed_input: a norm before attention and MLP makes a tensor of its own.
        normed_queries: the attention norms its queries.
        weights: counts of its weights.
    """

    shapes: Shapes
    hidden: int
    mlp: int
    vocabulary: int
    rotary: int
    window: int
    window_layers: int
    max_length: int
    experts: int
    fused_attention: bool
    fused_mlp: bool
    normed_input: bool
    normed_queries: bool
    weights: Weights

    @property
    def budget_layers(self) -> int:
        """Layers that keep a budget."""
        return self.shapes.layers - self.window_layers

    @property
    def q_width(self) -> int:
        """Width of all query heads together."""
        return self.shapes.q_heads * self.shapes.head_dim

    @property
    def kv_width(self) -> int:
        """Width of all KV heads together, keys or values."""
        return self.shapes.kv_heads * self.shapes.head_dim


def sizes_of(config: Any) -> Sizes:
    """The sizes of a model, from its transformers configuration.

    Raises:
        LocretError: the model's family is not supported.
    """
    family, text = family_of(config), text_config(config)
    model = empty_model(config)
    layer: Any = decoder_of(model).layers[-1]  # type: ignore[index]
    parts = {name.rsplit(".", 1)[-1] for name, _ in layer.named_modules()}
    chosen = text.num_experts_per_tok if "experts" in parts else 0
    bounded = text.num_hidden_layers - len(budgeted_layers(config))
    return Sizes(
        shapes=shapes_of(config),
        hidden=text.hidden_size,
        mlp=getattr(text, "moe_intermediate_size", text.intermediate_size) if chosen else text.intermediate_size,
        vocabulary=text.vocab_size,
        rotary=2 * max(len(frequencies) for frequencies in layer_frequencies(model)),
        window=text.sliding_window if bounded else 0,
        window_layers=bounded,
        max_length=text.max_position_embeddings,
        experts=chosen,
        fused_attention=len(family.projections) == 1,
        fused_mlp="gate_up_proj" in parts,
        normed_input="input_layernorm" in parts,
        normed_queries=hasattr(attention_modules(model)[-1], "q_norm"),
        weights=count_weights(model, chosen / _experts(text) if chosen else 1.0),
    )


def empty_model(config: Any) -> Any:
    """The model of a configuration on the meta device: its tensors have shapes but no memory.

    Raises:
        LocretError: transformers makes no model of it.
    """
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)
    except Exception as error:  # transformers raises whatever its parts raise
        raise LocretError(
            f"no model can be made of this {text_config(config).model_type} configuration ({first_line(error)}): "
            "check its fields, or fetch it again"
        ) from error


def _experts(text: Any) -> int:
    return int(getattr(text, "num_local_experts", 0) or text.num_experts)
