"""Model families: where the attention modules and their q, k, v projections are found.

Adding a family is one `register_family` line, once its forward pass keeps the shape of Llama's: projections,
rotary embedding, `past_key_values.update`, attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from locret.errors import LocretError
from locret.models.refusals import check_family, check_layers, layer_kinds
from locret.registry import Registry


class Projections(NamedTuple):
    """Outputs of one layer's q, k and v projections, before rotary embedding.

    Shapes: q [batch, tokens, q_heads * head_dim]; k and v [batch, tokens, kv_heads * head_dim].
    """

    q: Tensor
    k: Tensor
    v: Tensor


@dataclass(frozen=True, slots=True)
class Shapes:
    """The sizes of a model's attention."""

    layers: int
    q_heads: int
    kv_heads: int
    head_dim: int

    @property
    def features(self) -> int:
        """Width of the concatenated [q; k; v] of one token."""
        return (self.q_heads + 2 * self.kv_heads) * self.head_dim


@dataclass(frozen=True, slots=True)
class Family:
    """How to find the projections of one model type.

    Attributes:
        model_type: transformers' `config.model_type`.
        projections: names of the projection modules inside the attention module, in the order q, k, v; a single
            name means one fused module whose output is [q; k; v].
        heads_first_norm: the norm of the queries sees [batch, q_heads, tokens, head_dim], not tokens before heads.
    """

    model_type: str
    projections: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")
    heads_first_norm: bool = False

    def split(self, outputs: Sequence[Tensor], shapes: Shapes) -> Projections:
        """Name the outputs of the projection modules; a fused one is cut (views, no copies)."""
        if len(outputs) == 3:
            return Projections(*outputs)
        kv_width = shapes.kv_heads * shapes.head_dim
        return Projections(*outputs[0].split([shapes.q_heads * shapes.head_dim, kv_width, kv_width], dim=-1))


_families: Registry[Family] = Registry("model family")


def register_family(family: Family) -> None:
    """Make a family known.

    Raises:
        LocretError: its model type is registered already.
    """
    _families.register(family.model_type)(family)


def list_families() -> list[str]:
    """The model types that are supported."""
    return _families.names()


def family_of(config: Any) -> Family:
    """The family of a transformers configuration.

    Raises:
        LocretError: the model type is not supported, or a setting rules it out; the message says which and why.
    """
    text = text_config(config)
    if text.model_type not in _families:
        check_family(text.model_type)
    family = _families.get(text.model_type)
    check_layers(text)
    return family


def budgeted_layers(config: Any) -> list[int]:
    """Indices of the layers whose attention is not bounded by a sliding window, so that their cache needs a budget."""
    kinds = layer_kinds(text_config(config))
    return [index for index, kind in enumerate(kinds) if kind == "full_attention"]


def text_config(config: Any) -> Any:
    """The configuration of the language model inside `config` (itself, where there is only one)."""
    return config.get_text_config(decoder=True)


def shapes_of(config: Any) -> Shapes:
    """Read the attention sizes off a transformers configuration."""
    text = text_config(config)
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    kv_heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    return Shapes(text.num_hidden_layers, text.num_attention_heads, kv_heads, head_dim)


def decoder_of(model: nn.Module) -> nn.Module:
    """The stack of decoder layers, without the language-model head."""
    get_decoder = getattr(model, "get_decoder", None)
    decoder = get_decoder() if get_decoder else None
    if decoder is None or not hasattr(decoder, "layers"):
        raise LocretError(
            f"{type(model).__name__} has no decoder with layers: give a causal language model of transformers, "
            "for example one loaded by AutoModelForCausalLM"
        )
    return decoder


def attention_modules(model: nn.Module) -> list[nn.Module]:
    """The attention module of every decoder layer, in order."""
    return [layer.self_attn for layer in decoder_of(model).layers]  # type: ignore[union-attr]


for _model_type in (
    "llama",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "smollm3",
    "olmo2",
    "olmo3",
    "granite",
):
    register_family(Family(_model_type))
register_family(Family("gemma3_text", heads_first_norm=True))
register_family(Family("phi3", projections=("qkv_proj",)))
