"""The weights and the tokenizer of a GGUF file, made plain: dequantised once, named as transformers names them.

Transformers can load the file itself (`gguf_file=`), and its rules for names and layouts are what is used here. But it
reads the header, vocabulary and all, once for the configuration, once for the weights and once for the tokenizer, with
a table of names for every module, which takes longer than the weights themselves; and what it does not know in a file
it leaves out without a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

from locret.errors import LocretError, first_line
from locret.models.gguf_config import INSTEAD, ROPE_TENSORS
from locret.models.gguf_header import Header

TOKENS, KIND = "tokenizer.ggml.tokens", "tokenizer.ggml.model"


@dataclass(frozen=True)
class _Names:
    """What transformers asks a model for when it matches names: one flat list of them, so that it asks once."""

    config: Any
    shapes: dict[str, tuple[int, ...]]

    def state_dict(self) -> dict[str, tuple[int, ...]]:
        return self.shapes

    def named_children(self) -> Iterator[Any]:
        return iter(())


def weights_of(header: Header, config: Any, dtype: torch.dtype) -> dict[str, Tensor]:
    """All weights of the model in a GGUF file: transformers' name -> tensor on the CPU.

    Args:
        header: of the file.
        config: the model's configuration.
        dtype: what they are turned into; they are dequantised in fp32.

    Raises:
        LocretError: a tensor is missing, has another shape than the model's, or is none of the model's.
    """
    with torch.device("meta"):
        shapes = {name: tuple(it.shape) for name, it in AutoModelForCausalLM.from_config(config).state_dict().items()}
    if config.tie_word_embeddings:
        shapes.pop("lm_head.weight", None)
    processor = TENSOR_PROCESSORS.get(header.architecture, TensorProcessor)(config=config.to_dict())
    names = get_gguf_hf_weights_map(_Names(config, shapes), processor)
    made: dict[str, Tensor] = {}
    for name in header.tensors:
        if name in ROPE_TENSORS:  # part of the configuration
            continue
        # Experts lie together in one tensor, and are put into place by the processor itself.
        result = processor.process(
            weights=header.read(name), name=name, tensor_key_mapping=names, parsed_parameters={"tensors": made}
        )
        if result.name is None:
            continue
        if result.name not in names:
            raise LocretError(f"{header.path} has the tensor {name}, which no {config.model_type} model has: {INSTEAD}")
        made[names[result.name]] = _tensor(result.weights, dtype)
    _check_complete(header, made, shapes)
    return {name: tensor.to(dtype) for name, tensor in made.items()}


def tokenizer_of(header: Header) -> Any:
    """The tokenizer in a GGUF file, with the chat template that it has there.

    Raises:
        LocretError: there is none, or it is of a kind that cannot be read.
    """
    path, kind = header.path, header.values.get(KIND)
    if kind in (None, "none") or not header.values.get(TOKENS):
        raise LocretError(f"{path} has no tokenizer in it: take a file that has one, or {INSTEAD}")
    try:
        return PreTrainedTokenizerFast(gguf_file=path.name, name_or_path=str(path.parent))
    except Exception as error:  # a tokenizer is made by several libraries
        raise LocretError(
            f"the tokenizer in {path} is {kind!r} and cannot be read ({first_line(error)}): {INSTEAD}"
        ) from error


def _tensor(weights: np.ndarray, dtype: torch.dtype) -> Tensor:
    """A tensor of its own; what is in the file as it is would else be a view of it."""
    return torch.from_numpy(np.require(weights, requirements=["C", "W", "O"])).to(dtype)


def _check_complete(header: Header, made: dict[str, Tensor], shapes: dict[str, tuple[int, ...]]) -> None:
    missing = sorted(shapes.keys() - made.keys())
    if missing:
        raise LocretError(f"{header.path} has no tensor for {missing[0]} ({len(missing)} are missing): fetch it again")
    for name, tensor in made.items():
        if tuple(tensor.shape) != shapes[name]:
            raise LocretError(
                f"{header.path}: {name} has shape {list(tensor.shape)}, but its header describes {list(shapes[name])}: "
                "fetch it again"
            )
