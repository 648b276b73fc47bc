"""The transformers configuration of a GGUF file, from its header alone."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from transformers import AutoConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from locret.errors import LocretError, first_line
from locret.models.gguf_header import Header

# Llama.cpp's architecture -> transformers' model type; a row is enough where the tensors are named as in these.
ARCHITECTURES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen3moe": "qwen3_moe",
    "phi3": "phi3",
    "gemma3": "gemma3_text",
}
EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
FREQUENCIES, SHORT, LONG = ROPE_TENSORS = ("rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight")
# What Llama 3 files leave out, as all of them were made with it; whether it holds is checked.
LLAMA_3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
GEMMA_27B = 62  # layers; it alone scales queries otherwise, which its file does not say
INSTEAD = "name the model's own folder or hub id instead"
BLOCK = re.compile(r"blk\.(\d{1,9})\.")  # how the tensors of a layer are named
YARN = {"type", "factor", "original_context_length", "finetuned"}


def config_of(header: Header) -> Any:
    """The transformers configuration of the model in a GGUF file.

    Raises:
        LocretError: an architecture that is not read, a key that is missing, or rotary embedding that cannot be told.
    """
    architecture, path = header.architecture, header.path
    if architecture not in ARCHITECTURES:
        raise LocretError(
            f"{path} has the architecture {architecture!r}, which is not read from GGUF files: read are "
            f"{', '.join(ARCHITECTURES)}; {INSTEAD}"
        )
    if EMBEDDING not in header.tensors:
        raise LocretError(f"{path} has no tensor {EMBEDDING}: fetch it again, or name a file with the whole model")
    heads = _needed(header, "attention.head_count")
    settings = {
        "max_position_embeddings": _count(header, "context_length"),
        "num_hidden_layers": _layers(header),
        "hidden_size": _count(header, "embedding_length"),
        "intermediate_size": _count(header, "feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": _number(header, "attention.head_count_kv") or heads,
        "head_dim": _head_dim(header),
        "rms_norm_eps": _positive(header, "attention.layer_norm_rms_epsilon"),
        "rope_theta": _theta(header),
        "vocab_size": _vocabulary(header),
        "tie_word_embeddings": OUTPUT not in header.tensors,
        **_ends(header.values),
        **_experts(header),
        **_partial(header),
    }
    window = _number(header, "attention.sliding_window")
    if window and architecture in ("gemma3", "phi3"):  # the others name it without using it
        settings["sliding_window"] = window
    if architecture == "gemma3" and settings["num_hidden_layers"] == GEMMA_27B:
        settings["query_pre_attn_scalar"] = settings["hidden_size"] // heads
    scaling = _scaling(header)
    if scaling:
        settings["rope_scaling"] = scaling
    if scaling.get("rope_type") == "longrope":  # Phi-3's configuration has it here, too, and that is what counts
        settings["original_max_position_embeddings"] = scaling["original_max_position_embeddings"]
    try:
        config = AutoConfig.for_model(ARCHITECTURES[architecture], **settings)
    except Exception as error:  # transformers checks sizes by several libraries
        raise LocretError(f"{path} describes no {architecture} model ({first_line(error)}): fetch it again") from error
    if FREQUENCIES in header.tensors:
        _check_frequencies(header, config)
    config.dequantised = True  # saved with it: weights that come of fewer bits, and that no dtype is told for
    return config


def _number(header: Header, key: str) -> Any:
    """The number of a key of the architecture, which has to be one number for all layers; None where it is not told."""
    value = header.value(key)
    if value is not None and not isinstance(value, (int, float)):
        raise LocretError(
            f"{header.path} has {header.architecture}.{key} of {str(value)[:40]!r}, and only one number for all layers "
            f"is read from GGUF files: {INSTEAD}"
        )
    return value


def _needed(header: Header, key: str) -> Any:
    value = _number(header, key)
    if value is None:
        raise LocretError(f"{header.path} does not say {header.architecture}.{key}: fetch it again")
    return value


def _positive(header: Header, key: str) -> Any:
    """A number above 0 and finite, which it has to say."""
    value = _needed(header, key)
    if not 0 < value < math.inf:  # NaN neither
        raise LocretError(
            f"{header.path} has {header.architecture}.{key} of {value}, which has to be a number above 0: "
            "it is damaged, fetch it again"
        )
    return value


def _count(header: Header, key: str) -> int:
    """A whole number above 0, which it has to say."""
    value = _positive(header, key)
    if not isinstance(value, int):
        raise LocretError(
            f"{header.path} has {header.architecture}.{key} of {value}, which has to be a whole number: "
            "it is damaged, fetch it again"
        )
    return value


def _layers(header: Header) -> int:
    """The number of layers, which has to be that of the tensors: a model of what a damaged file says may be endless."""
    count = _count(header, "block_count")
    found = 1 + max((int(block[1]) for block in map(BLOCK.match, header.tensors) if block), default=-1)
    if count != found:
        raise LocretError(
            f"{header.path} has {header.architecture}.block_count of {count}, but its tensors are those of {found} "
            "layers: it is damaged, fetch it again"
        )
    return count


def _theta(header: Header) -> float:
    """The base of the rotary frequencies."""
    return 10000.0 if header.value("rope.freq_base") is None else float(_positive(header, "rope.freq_base"))


def _head_dim(header: Header) -> int:
    """The size of a head; the files of Llama and Qwen 2 do not have to say it."""
    heads = max(1, _needed(header, "attention.head_count"))
    return int(_number(header, "attention.key_length") or _needed(header, "embedding_length") // heads)


def _vocabulary(header: Header) -> int:
    """The size of the vocabulary: rows of the embedding, which has to have one for every token."""
    rows, tokens = header.tensors[EMBEDDING].shape[0], header.values.get("tokenizer.ggml.tokens", 0)
    if tokens > rows:
        raise LocretError(
            f"{header.path} has {tokens} tokens in its vocabulary, but {EMBEDDING} has {rows} rows: "
            "tokenizer and weights do not belong together, fetch it again"
        )
    return rows


def _ends(values: dict[str, Any]) -> dict[str, Any]:
    """Token ids that begin, end and pad; a turn of a chat may end with another token than a text."""
    names = {"bos_token_id": "bos", "pad_token_id": "padding"}
    found = {name: values.get(f"tokenizer.ggml.{key}_token_id") for name, key in names.items()}
    ends = [values.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot")]
    ends = sorted({end for end in ends if end is not None})
    return {**found, "eos_token_id": ends if len(ends) > 1 else next(iter(ends), None)}


def _experts(header: Header) -> dict[str, Any]:
    count = _number(header, "expert_count")
    if not count:
        return {}
    if header.architecture != "qwen3moe":
        raise LocretError(
            f"{header.path} is a mixture of experts of the architecture {header.architecture!r}, which is not read "
            f"from GGUF files: {INSTEAD}"
        )
    return {
        "num_experts": count,
        "num_experts_per_tok": _needed(header, "expert_used_count"),
        "moe_intermediate_size": _needed(header, "expert_feed_forward_length"),
        "norm_topk_prob": True,  # as llama.cpp has it, whose files do not say
    }


def _partial(header: Header) -> dict[str, Any]:
    """The part of a head that is rotated, where that is not all of it."""
    turned, size = _number(header, "rope.dimension_count"), _head_dim(header)
    if turned in (None, size):
        return {}
    if header.architecture != "phi3":
        raise LocretError(
            f"{header.path} rotates {turned} of {size} dimensions of a head, which is not read from "
            f"{header.architecture} files: {INSTEAD}"
        )
    return {"partial_rotary_factor": turned / size}


def _scaling(header: Header) -> dict[str, Any]:
    """Scaling of rotary embedding, as transformers has it. Left out, long prompts would be read wrongly in silence."""
    prefix = f"{header.architecture}.rope.scaling."
    told = {key.removeprefix(prefix): value for key, value in header.values.items() if key.startswith(prefix)}
    linear = header.value("rope.scale_linear")  # how files of 2023 say it
    if linear is not None:
        told = {"type": "linear", "factor": linear, **told}
    kind, original = told.get("type", "none"), told.get("original_context_length")
    if SHORT in header.tensors and LONG in header.tensors and original:
        factor = {"attention_factor": told["attn_factor"]} if "attn_factor" in told else {}
        return {
            "rope_type": "longrope",
            "short_factor": header.read(SHORT).tolist(),
            "long_factor": header.read(LONG).tolist(),
            "original_max_position_embeddings": original,
            **factor,
        }
    if FREQUENCIES in header.tensors:
        return {"rope_type": "llama3", "factor": float(header.read(FREQUENCIES).max()), **LLAMA_3}
    if kind == "none" and not {"factor"} & told.keys():
        return {}
    if kind == "linear":
        return {"rope_type": "linear", "factor": told.get("factor", 1.0)}
    if kind == "yarn" and original and told.keys() <= YARN:
        return {"rope_type": "yarn", "factor": told["factor"], "original_max_position_embeddings": original}
    raise LocretError(
        f"{header.path} scales its rotary embedding by {kind!r} with {', '.join(sorted(told))}, which is not read from "
        f"GGUF files: {INSTEAD}"
    )


def _check_frequencies(header: Header, config: Any) -> None:
    """Make sure that the frequencies of the file are Llama 3's, which the configuration now says."""
    size = _head_dim(header)
    plain = 1.0 / _theta(header) ** (torch.arange(0, size, 2, dtype=torch.float32) / size)
    ours, _ = ROPE_INIT_FUNCTIONS["llama3"](config)
    theirs = torch.from_numpy(header.read(FREQUENCIES).copy())
    if theirs.shape != plain.shape or not torch.allclose(plain / theirs, ours, rtol=1e-3):
        raise LocretError(
            f"{header.path} has rotary frequencies of its own ({FREQUENCIES}) that are not Llama 3's: {INSTEAD}"
        )
