"""Loading a model by name, with its tokenizer and its retaining heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM

from locret.errors import LocretError, first_line
from locret.models.checkpoint import BUILTIN, HEADS, Checkpoint, resolve, shipped_heads
from locret.models.families import shapes_of, text_config
from locret.models.fingerprint import NEAR, distance_to
from locret.models.gguf_weights import weights_of
from locret.models.heads import RetainingHeads
from locret.models.heads_io import CONFIG, read_config
from locret.models.placement import PLAIN, find_device
from locret.models.quantisation import check_bits, quantisation

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
    model, tokenizer, heads = load_model("builtin", dtype, device)
    assert heads is not None
    return model, tokenizer, heads


def load_model(
    name: str,
    dtype: str = "auto",
    device: str = "auto",
    *,
    device_map: str | dict[str, Any] | None = None,
    weight_bits: int | None = None,
) -> tuple[Any, Any, RetainingHeads | None]:
    """A model and its tokenizer, and heads if they lie with it or are shipped with this package for its weights.

    Args:
        name: "builtin", "smollm2", a folder, a .gguf file, a hub id, or owner/name:file.gguf.
        dtype: auto, float32, bfloat16 or float16. The weights of a GGUF file are dequantised into it; auto is what
            the weights are saved in, and for a GGUF file float32 on the CPU and bfloat16 on CUDA devices.
        device: auto (CUDA where there is one), cpu, cuda, cuda:1, ...
        device_map: layers on several devices, as transformers takes it ("auto", or a device for each part), in place of
            `device`.
        weight_bits: 8 or 4 to quantise the weights; None leaves them as they are saved.

    Raises:
        LocretError: nothing can be loaded under that name, or its family is not supported.
    """
    if device_map is not None and device != "auto":
        raise LocretError(f"device is {device!r} and device_map is {device_map!r}: give one of them")
    if dtype not in DTYPES:
        raise LocretError(f"dtype is {dtype!r}: choose one of {', '.join(DTYPES)}")
    device = str(find_device(device))
    if weight_bits is not None:
        check_bits(weight_bits)
    checkpoint = resolve(name)
    tokenizer = checkpoint.tokenizer()
    model = _load(checkpoint, dtype, device, device_map, weight_bits)
    return model, tokenizer, _heads(checkpoint, model)


def auto_dtype(config: Any, cuda: bool) -> torch.dtype:
    """What `auto` is for a model that is not loaded: what its configuration says.

    That of a GGUF file says nothing: its weights are dequantised, into bfloat16 for a CUDA device, else float32.

    Raises:
        LocretError: it says something that no model computes in.
    """
    lean = cuda and getattr(config, "dequantised", False)
    told = text_config(config).dtype
    if told not in (None, *PLAIN):
        raise LocretError(f"dtype is {told!r} in the configuration: choose one of {', '.join(DTYPES)} (dtype)")
    return told or (torch.bfloat16 if lean else torch.float32)


def _load(
    checkpoint: Checkpoint, dtype: str, device: str, device_map: str | dict[str, Any] | None, weight_bits: int | None
) -> Any:
    config = checkpoint.config()
    wanted: Any = DTYPES[checkpoint.dtype if dtype == "auto" else dtype]
    if checkpoint.gguf and wanted == "auto":
        wanted = auto_dtype(config, torch.device(device).type == "cuda")
    options: dict[str, Any] = {} if device_map is None else {"device_map": device_map}
    if weight_bits is not None:
        options["quantization_config"] = quantisation(weight_bits, config, wanted)
    if weight_bits is not None or getattr(config, "quantization_config", None) is not None:
        options.setdefault("device_map", {"": device})  # packed weights cannot all be moved later
    try:
        if checkpoint.gguf:
            weights = weights_of(checkpoint.gguf, config, wanted)
            kind = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
            model = kind.from_pretrained(None, config=config, state_dict=weights, dtype=wanted, **options)
            model.config.name_or_path = str(checkpoint.gguf.path)
        else:
            model = AutoModelForCausalLM.from_pretrained(checkpoint.source, config=config, dtype=wanted, **options)
    except LocretError:
        raise
    except Exception as error:  # transformers raises whatever its parts raise
        raise LocretError(
            f"model {checkpoint.name!r} could not be loaded ({first_line(error)}): "
            "check the folder, the id or the network"
        ) from error
    return (model if options else model.to(device)).eval()


def _heads(checkpoint: Checkpoint, model: Any) -> RetainingHeads | None:
    """The heads that lie with a model, or those of this package that were trained on its weights."""
    if (checkpoint.heads / CONFIG).is_file():
        return RetainingHeads.from_pretrained(checkpoint.heads)
    return next((heads for folder in shipped_heads() if (heads := _fitting(folder, model))), None)


def known_width(name: str | Path, config: Any) -> int | None:
    """The hidden width of the heads that a model would get: those that lie with it, or come with this package.

    Args:
        name: of the model.
        config: its transformers configuration; weights are not looked at, so sizes have to do.

    Returns:
        None where no heads are known for these sizes.
    """
    path = Path(name)
    beside = [path / HEADS, path.parent / HEADS] if path.exists() else []
    for folder in (*beside, *shipped_heads()):
        if (folder / CONFIG).is_file():
            heads = read_config(folder / CONFIG)
            if (heads.model_type, heads.shapes) == (text_config(config).model_type, shapes_of(config)):
                return heads.width
    return None


def _fitting(folder: Path, model: Any) -> RetainingHeads | None:
    """The heads of a folder if they were trained on these weights, which may be a copy in fewer bits.

    Unlike heads that somebody names, these are not given the benefit of the doubt.
    """
    heads = RetainingHeads.from_pretrained(folder)
    try:
        heads.check_sizes(model.config)
    except LocretError:
        return None
    apart = distance_to(heads.config.fingerprint, model)
    return heads if apart is not None and apart <= NEAR else None
