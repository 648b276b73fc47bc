"""Weights in 8 or 4 bits, packed while a model is loaded: bitsandbytes does it on the CPU and on CUDA devices alike."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from locret.errors import LocretError

BITS = (4, 8)


def quantisation(bits: int, config: Any, dtype: str | torch.dtype) -> BitsAndBytesConfig:
    """How transformers is to quantise the weights of a model.

    Retaining heads stay as they are: they read the outputs of the projections, which are not quantised.

    Args:
        bits: 8 (LLM.int8, arXiv 2208.07339) or 4 (NF4, arXiv 2305.14314).
        config: the model's configuration.
        dtype: what is computed in; "auto" is what the weights are saved in.

    Raises:
        LocretError: another number of bits, weights that are quantised already, or no bitsandbytes here.
    """
    check_bits(bits)
    if getattr(config, "quantization_config", None) is not None:
        raise LocretError("the weights of this model are quantised already: load it without weight bits")
    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    computed = (config.dtype or torch.float32) if dtype == "auto" else dtype
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=computed)


def check_bits(bits: int) -> None:
    """Refuse a number of bits that weights cannot have, before anything is read.

    Raises:
        LocretError: not 4 or 8, or there is no bitsandbytes.
    """
    if bits not in BITS:
        raise LocretError(f"weight bits are {bits}: give 4 or 8")
    if find_spec("bitsandbytes") is None:
        raise LocretError("weights in 4 or 8 bits need bitsandbytes: pip install 'locret[quant]'")
