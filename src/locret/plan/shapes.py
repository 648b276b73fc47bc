"""Shapes by name: models whose sizes are known without their files, for planning and for timing random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoConfig

from locret.errors import LocretError
from locret.models.checkpoint import load_config
from locret.models.families import family_of

_LLAMA_31 = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
# The published LongRoPE factors are 96 numbers that change neither sizes nor speed; ramps stand in for them.
_PHI_3_ROPE = {
    "rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 4096, "factor": 32.0,
    "short_factor": [1.0 + i / 48 for i in range(48)], "long_factor": [1.0 + i * 64 / 48 for i in range(48)],
}  # fmt: skip
_LLAMA_3 = {"model_type": "llama", "vocab_size": 128256, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5}
_SMALL = {
    "vocab_size": 32000, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}, "dtype": "float32",
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip


def _sizes(hidden: int, mlp: int, layers: int, heads: int, kv_heads: int, **more: Any) -> dict[str, Any]:
    """Configuration fields, with those that differ between models of one family in a fixed order."""
    return {
        "hidden_size": hidden, "intermediate_size": mlp, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "dtype": "bfloat16", **more,
    }  # fmt: skip


def _rope(theta: float) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": theta}


SHAPES: dict[str, dict[str, Any]] = {
    "llama-3.1-8b": {**_LLAMA_3, **_sizes(4096, 14336, 32, 32, 8, rope_parameters=_LLAMA_31)},
    "llama-3.1-70b": {**_LLAMA_3, **_sizes(8192, 28672, 80, 64, 8, rope_parameters=_LLAMA_31)},
    "llama-3.2-1b": {
        **_LLAMA_3,
        **_sizes(
            2048, 8192, 16, 32, 8, head_dim=64, tie_word_embeddings=True, rope_parameters={**_LLAMA_31, "factor": 32.0}
        ),
    },
    "llama-3.2-3b": {
        **_LLAMA_3,
        **_sizes(
            3072, 8192, 28, 24, 8, head_dim=128, tie_word_embeddings=True, rope_parameters={**_LLAMA_31, "factor": 32.0}
        ),
    },
    "phi-3-mini-128k": {
        "model_type": "phi3",
        "vocab_size": 32064,
        "max_position_embeddings": 131072,
        "original_max_position_embeddings": 4096,
        **_sizes(3072, 8192, 32, 32, 32, rope_parameters=_PHI_3_ROPE),
        "bos_token_id": 1,
        "eos_token_id": 32000,
        "pad_token_id": 32000,
    },
    "mistral-7b": {
        "model_type": "mistral",
        "vocab_size": 32768,
        "max_position_embeddings": 32768,
        "sliding_window": None,
        **_sizes(4096, 14336, 32, 32, 8, rope_parameters=_rope(1e6)),
    },
    "qwen2.5-7b": {
        "model_type": "qwen2",
        "vocab_size": 152064,
        "max_position_embeddings": 32768,
        **_sizes(3584, 18944, 28, 28, 4, rope_parameters=_rope(1e6)),
    },
    "qwen2.5-14b": {
        "model_type": "qwen2",
        "vocab_size": 152064,
        "max_position_embeddings": 32768,
        **_sizes(5120, 13824, 48, 40, 8, rope_parameters=_rope(1e6)),
    },
    "qwen3-8b": {
        "model_type": "qwen3",
        "vocab_size": 151936,
        "max_position_embeddings": 40960,
        **_sizes(4096, 12288, 36, 32, 8, head_dim=128, rope_parameters=_rope(1e6)),
    },
    "gemma-3-12b": {
        "model_type": "gemma3_text",
        "vocab_size": 262208,
        "max_position_embeddings": 131072,
        "sliding_window": 1024,
        "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 8,
        **_sizes(3840, 15360, 48, 16, 8, head_dim=256, tie_word_embeddings=True),
    },
    "llama-60m": {"model_type": "llama", **_SMALL, **_sizes(512, 1536, 8, 8, 2, dtype="float32")},
    "llama-150m": {"model_type": "llama", **_SMALL, **_sizes(768, 2304, 14, 12, 4, dtype="float32")},
    "phi3-100m": {"model_type": "phi3", **_SMALL, **_sizes(640, 1792, 12, 10, 10, dtype="float32")},
}


def find_config(name: str | Path) -> Any:
    """The transformers configuration of a shape by name, or of anything that `load_config` takes.

    Raises:
        LocretError: there is none under that name; the message lists the shapes.
    """
    if str(name) in SHAPES:
        settings = dict(SHAPES[str(name)])
        config = AutoConfig.for_model(settings.pop("model_type"), **settings)
        family_of(config)
        return config
    try:
        return load_config(name)
    except LocretError as error:
        raise LocretError(f"{error}; or name a shape: {', '.join(SHAPES)}") from error
