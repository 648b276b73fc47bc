"""Loading a model by name: the built-in one, a local folder or a hub id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from locret.errors import LocretError
from locret.models.families import family_of
from locret.models.heads import RetainingHeads
from locret.models.heads_io import CONFIG
from locret.models.quantisation import check_bits, quantisation

BUILTIN = Path(__file__).parent.parent / "builtin"
DTYPES: dict[str, str | torch.dtype] = {
    "auto": "auto",
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def load_builtin(dtype: str = "float32", device: str = "cpu") -> tuple[Any, Any, RetainingHeads]:
    """The built-in model, its tokenizer and its trained heads, offline.

    Raises:
        LocretError: the files did not come with this installation.
    """
    if not (BUILTIN / "model.safetensors").is_file():
        raise LocretError(f"the built-in model is missing from {BUILTIN}: install locret again, or run `make builtin`")
    model, tokenizer = _load(str(BUILTIN), dtype, device)
    return model, tokenizer, RetainingHeads.from_pretrained(BUILTIN / "heads")


def load_model(
    name: str,
    dtype: str = "auto",
    device: str = "auto",
    *,
    device_map: str | dict[str, Any] | None = None,
    weight_bits: int | None = None,
) -> tuple[Any, Any, RetainingHeads | None]:
    """A model and its tokenizer, and heads if they lie with it.

    Args:
        name: "builtin", a folder, or a hub id.
        dtype: auto, float32, bfloat16 or float16.
        device: auto (CUDA where there is one), cpu, cuda, cuda:1, ...
        device_map: layers on several devices, as transformers takes it ("auto", or a device for each part), in place of
            `device`.
        weight_bits: 8 or 4 to quantise the weights; None leaves them as they are saved.

    Raises:
        LocretError: nothing can be loaded under that name, or its family is not supported.
    """
    if device_map is not None and device != "auto":
        raise LocretError(f"device is {device!r} and device_map is {device_map!r}: give one of them")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "builtin":
        name, dtype = str(BUILTIN), "float32" if dtype == "auto" else dtype
    model, tokenizer = _load(name, dtype, device, device_map, weight_bits)
    own = Path(name) / "heads"
    heads = RetainingHeads.from_pretrained(own) if (own / CONFIG).is_file() else None
    return model, tokenizer, heads


def _load(
    name: str,
    dtype: str,
    device: str,
    device_map: str | dict[str, Any] | None = None,
    weight_bits: int | None = None,
) -> tuple[Any, Any]:
    if dtype not in DTYPES:
        raise LocretError(f"dtype is {dtype!r}: choose one of {', '.join(DTYPES)}")
    _check_device(device)
    if weight_bits is not None:
        check_bits(weight_bits)
    try:
        config = AutoConfig.from_pretrained(name)
        family_of(config)
        options: dict[str, Any] = {} if device_map is None else {"device_map": device_map}
        if weight_bits is not None:
            options["quantization_config"] = quantisation(weight_bits, config, DTYPES[dtype])
        if weight_bits is not None or getattr(config, "quantization_config", None) is not None:
            options.setdefault("device_map", {"": device})  # packed weights cannot all be moved later
        model = AutoModelForCausalLM.from_pretrained(name, config=config, dtype=DTYPES[dtype], **options)
        tokenizer = AutoTokenizer.from_pretrained(name)
    except LocretError:
        raise
    except Exception as error:  # transformers raises whatever its parts raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise LocretError(
            f"model {name!r} could not be loaded ({reason}): check the folder, the id or the network"
        ) from error
    return (model if options else model.to(device)).eval(), tokenizer


def _check_device(device: str) -> None:
    """Refuse a device that is misspelt or not here, before weights are read."""
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise LocretError(f"device is {device!r}: give auto, cpu, cuda, or one of several as cuda:1") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise LocretError(f"device is {device!r}, but torch sees no CUDA device here: give cpu, or auto")
