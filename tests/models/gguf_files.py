"""GGUF files of tiny models, written with the gguf package as llama.cpp's converter writes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFEndian, GGUFWriter
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaForCausalLM, PreTrainedModel

from locret.models.gguf_config import ARCHITECTURES
from tests.conftest import tiny_llama

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = (("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"))
TOKENS = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(merge) for merge in MERGES)]
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONTROL, NORMAL = 3, 1
PLAIN = GGMLQuantizationType.F32


@dataclass(frozen=True)
class Draft:
    """What is to be written into a GGUF file.

    Attributes:
        architecture: llama.cpp's name.
        values: key -> value, without the architecture's.
        tensors: name -> numbers.
        kind: the quantisation of matrices; what has one dimension stays in fp32.
    """

    architecture: str
    values: dict[str, Any]
    tensors: dict[str, np.ndarray]
    kind: GGMLQuantizationType = PLAIN

    def changed(self, **values: Any) -> Draft:
        """Another value for some keys, with `__` for a dot; None takes the key away."""
        new = {key.replace("__", "."): value for key, value in values.items()}
        return replace(self, values={key: v for key, v in {**self.values, **new}.items() if v is not None})

    def without(self, *names: str) -> Draft:
        """Without some tensors."""
        return replace(self, tensors={name: it for name, it in self.tensors.items() if name not in names})

    def with_tensor(self, name: str, numbers: np.ndarray) -> Draft:
        """With another tensor."""
        return replace(self, tensors={**self.tensors, name: numbers.astype(np.float32)})

    def write(self, path: Path, endian: GGUFEndian = GGUFEndian.LITTLE) -> Path:
        """Write the file; its folder is made if need be."""
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = GGUFWriter(path, self.architecture, endianess=endian)
        for key, value in self.values.items():
            if isinstance(value, list):
                writer.add_array(key, value)
            else:
                writer.add_key_value(key, value, gguf.GGUFValueType.get_type(value))
        for name, numbers in self.tensors.items():
            kind = self.kind if numbers.ndim > 1 else PLAIN
            writer.add_tensor(name, gguf.quantize(numbers, kind), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path


def small_llama(**changes: object) -> LlamaForCausalLM:
    """A random Llama for the vocabulary of these files, whose rows are whole blocks of 32."""
    sizes = {"vocab_size": len(TOKENS), "hidden_size": 64, "num_attention_heads": 4, "head_dim": 16}
    return tiny_llama(**{**sizes, "bos_token_id": 1, "eos_token_id": 2, **changes})


def draft_of(model: PreTrainedModel) -> Draft:
    """The file of a model with the tokenizer of this module, in fp32."""
    config = model.config
    architecture = next(name for name, kind in ARCHITECTURES.items() if kind == config.model_type)
    sizes = {
        "context_length": config.max_position_embeddings,
        "block_count": config.num_hidden_layers,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
    }
    if architecture == "qwen3moe":
        sizes |= {"expert_count": config.num_experts, "expert_used_count": config.num_experts_per_tok}
        sizes |= {"expert_feed_forward_length": config.moe_intermediate_size}
    if architecture == "gemma3":
        sizes |= {"attention.sliding_window": config.sliding_window, "rope.freq_base": 1e6}
    if architecture == "phi3":
        sizes["rope.dimension_count"] = int(config.head_dim * config.rope_parameters["partial_rotary_factor"])
    values = {f"{architecture}.{key}": value for key, value in sizes.items()}
    return Draft(architecture, {**values, **tokenizer_values()}, _tensors(model, architecture))


def tokenizer_values() -> dict[str, Any]:
    """Keys of a byte-level tokenizer with four merges, three control tokens and a chat template."""
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": [CONTROL if token in SPECIAL else NORMAL for token in TOKENS],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in MERGES],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    }


def reference_tokenizer() -> Tokenizer:
    """The same tokenizer, not by way of a file."""
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(TOKENS)}, list(MERGES)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def _tensors(model: PreTrainedModel, architecture: str) -> dict[str, np.ndarray]:
    """The weights as llama.cpp names and lays them out."""
    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(arch, model.config.num_hidden_layers)
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    made: dict[str, np.ndarray] = {}
    for key, tensor in model.state_dict().items():
        numbers = tensor.float().numpy()
        if key in tied:
            continue
        if ".experts." in key:
            made |= _experts(key, numbers)
            continue
        name = names.get_name(key, (".weight", ".bias"))
        assert name is not None, key
        made[name] = _laid_out(name, numbers, model.config, architecture)
    return made


def _laid_out(name: str, numbers: np.ndarray, config: Any, architecture: str) -> np.ndarray:
    if architecture == "gemma3" and name.endswith("norm.weight"):
        return numbers + 1
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(name.split(".")[-2])
    if architecture != "llama" or heads is None:
        return numbers
    halves = numbers.reshape(heads, 2, -1, *numbers.shape[1:])  # rotated in neighbouring pairs, not in halves
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(numbers.shape))


def _experts(key: str, numbers: np.ndarray) -> dict[str, np.ndarray]:
    layer, part = key.split(".")[2], key.split(".")[-1]
    if part == "down_proj":
        return {f"blk.{layer}.ffn_down_exps.weight": numbers}
    gate, up = np.split(numbers, 2, axis=1)
    return {f"blk.{layer}.ffn_gate_exps.weight": gate, f"blk.{layer}.ffn_up_exps.weight": up}
