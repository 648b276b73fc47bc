"""What cannot be read in a budget, by name and with the reason."""

from __future__ import annotations

from typing import Any

from locret.errors import LocretError

LATENT = "its latent attention caches one compressed vector a token, not keys and values of KV heads"
RECURRENT = "its layers carry a recurrent state, which is of fixed size already and has no units to evict"
INTERLEAVED = "its rotary embedding pairs neighbouring dimensions, and keys are re-rotated in the layout of Llama only"
REFUSED = {
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT,
    "kimi_k2": LATENT,
    "longcat_flash": LATENT,
    "minicpm3": LATENT,
    "mamba": RECURRENT,
    "mamba2": RECURRENT,
    "jamba": RECURRENT,
    "recurrent_gemma": RECURRENT,
    "rwkv": RECURRENT,
    "cohere": INTERLEAVED,
    "cohere2": INTERLEAVED,
    "glm": INTERLEAVED,
    "glm4": INTERLEAVED,
    "helium": INTERLEAVED,
    "ernie4_5": INTERLEAVED,
    "gpt_oss": "its attention has sinks of its own, which split and masked attention would leave out",
    "gemma2": "its attention caps the logits softly, which split and masked attention would leave out",
}
SIZES = {
    "num_hidden_layers": 1 << 12, "num_attention_heads": 1 << 16, "num_key_value_heads": 1 << 16, "head_dim": 1 << 16,
    "hidden_size": 1 << 20, "intermediate_size": 1 << 24, "vocab_size": 1 << 24, "max_position_embeddings": 1 << 40,
}  # fmt: skip
FULL, SLIDING = "full_attention", "sliding_attention"


def check_family(model_type: str) -> None:
    """Raise LocretError with the reason for a model type that is known not to work; pass over all others."""
    if model_type in REFUSED:
        raise LocretError(f"model family {model_type!r} cannot be read in a budget: {REFUSED[model_type]}")


def layer_kinds(text: Any) -> tuple[str, ...]:
    """What the attention of every layer sees, in transformers' words; a window that covers everything is full."""
    window = getattr(text, "sliding_window", None)
    bounded = bool(window) and window < text.max_position_embeddings
    kinds = getattr(text, "layer_types", None) or (SLIDING if window else FULL,) * text.num_hidden_layers
    return tuple(FULL if kind == SLIDING and not bounded else kind for kind in kinds)


def check_layers(text: Any) -> None:
    """Refuse a model whose layers or positions do not go together with eviction.

    Raises:
        LocretError: every layer has a sliding window, a layer is neither full nor sliding, or RoPE depends on the
            length of the pass.
    """
    _check_sizes(text)
    kinds = layer_kinds(text)
    if FULL not in kinds and set(kinds) == {SLIDING}:
        raise LocretError(
            f"every layer of this {text.model_type} model has a sliding window of {text.sliding_window}: its cache is "
            "bounded already, and nothing is left to evict"
        )
    strange = sorted(set(kinds) - {FULL, SLIDING})
    if strange:
        raise LocretError(
            f"this {text.model_type} model has layers of kind {strange[0]!r}: only {FULL} and {SLIDING} are supported"
        )
    if "dynamic" in _rope_types(text):
        raise LocretError(
            f"this {text.model_type} model has RoPE scaling of type 'dynamic', which depends on the length of each "
            "forward pass, so cached keys would not fit together: set rope_type to 'yarn' or 'linear'"
        )


def _check_sizes(text: Any) -> None:
    """Refuse sizes that no model has, as a damaged file may say them: as much would be made of what it says."""
    for name, most in SIZES.items():
        size = getattr(text, name, None)
        if size is not None and (type(size) is not int or not 1 <= size <= most):
            raise LocretError(
                f"this {text.model_type} model has {name} of {str(size)[:40]!r}: give its own "
                f"configuration, in which that is a whole number from 1 to {most}"
            )


def _rope_types(text: Any) -> set[str]:
    """All types of RoPE scaling in a configuration; some models have one for each kind of layer."""
    parameters = getattr(text, "rope_parameters", None) or {}
    groups = [parameters, *(value for value in parameters.values() if hasattr(value, "get"))]
    return {group["rope_type"] for group in groups if group.get("rope_type")}
