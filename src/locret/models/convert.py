"""Published heads (see `locret.models.original`) as `RetainingHeads`, checked against their backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from locret.errors import LocretError
from locret.models.checkpoint import load_config
from locret.models.families import Shapes, family_of, shapes_of, text_config
from locret.models.fingerprint import fingerprint_of_weights, sampled_layers
from locret.models.heads import RetainingHeads
from locret.models.heads_io import check_numbers
from locret.models.original import HeadNames, head_names
from locret.models.sources import find_source
from locret.models.state_dicts import StateDict

OBJECTIVE = "logits"  # what all published heads were trained on
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def convert_heads(source: str | Path, model: str | Path | None = None) -> RetainingHeads:
    """Read retaining heads in the published format.

    The width is read off the tensors, the dtype is kept. If the state dict holds the backbone too, its weights give
    the fingerprint.

    Args:
        source: a .safetensors, .bin or .pt file; a folder with such files, sharded or not; a hub id.
        model: the backbone: what `load_model` takes, or a config.json file. Without it, the config.json that lies with
            the heads counts.

    Raises:
        LocretError: no heads there, damaged files, Python objects in a pickle, or heads that do not fit the backbone;
            the message names what was found, what was expected, and what to do.
    """
    found = find_source(source)
    backbone = found.config if model is None else model
    if backbone is None:
        raise LocretError(f"{source} comes without a config.json: name the backbone of these heads (--model)")
    config = load_config(backbone)
    shapes, tensors = shapes_of(config), found.tensors
    names = head_names(tensors.source, tensors.files)
    _check_layers(tensors.source, names, shapes, config)
    width = _check_shapes(tensors, names, shapes, config)
    read = {name: tensors.read(name) for pair in names.values() for name in pair}
    check_numbers(tensors.source, read, DTYPES)
    _check_finite(tensors.source, read)
    weights = {
        f"layers.{layer}.{fc}.weight": read[name].contiguous()
        for layer, pair in names.items()
        for fc, name in zip(HeadNames._fields, pair, strict=True)
    }
    fingerprint = _fingerprint(tensors, names, config)
    with torch.device("meta"):  # no time for random weights that are replaced at once
        heads = RetainingHeads.from_config(config, width, OBJECTIVE, fingerprint)
    heads.load_state_dict(weights, assign=True)
    return heads


def _check_layers(source: str, names: dict[int, HeadNames], shapes: Shapes, config: Any) -> None:
    missing = sorted(set(range(shapes.layers)) - names.keys())
    extra = sorted(names.keys() - set(range(shapes.layers)))
    backbone = f"the {text_config(config).model_type} backbone has {shapes.layers} layers"
    if extra:
        raise LocretError(
            f"{source} has a retaining head for layer {extra[-1]}, but {backbone}, 0 to {shapes.layers - 1}: "
            "name the backbone that these heads were trained for"
        )
    if missing:
        raise LocretError(
            f"{source} has no retaining head for layer {missing[0]} ({len(missing)} are missing), but {backbone}: "
            "fetch the whole file, or name the backbone that these heads were trained for"
        )


def _check_shapes(tensors: StateDict, names: dict[int, HeadNames], shapes: Shapes, config: Any) -> int:
    """The width of the heads; the shapes are looked at before anything is read."""
    width = next(iter(tensors.shape(names[0].fc1)), 0)
    for layer in range(shapes.layers):
        expected = ((width, shapes.features), (shapes.kv_heads, width))
        for name, shape in zip(names[layer], expected, strict=True):
            if tensors.shape(name) != shape:
                raise LocretError(
                    f"{tensors.source}: {name} has shape {list(tensors.shape(name))}, but a head of width {width} for "
                    f"this {text_config(config).model_type} backbone ({shapes.q_heads} query heads, {shapes.kv_heads} "
                    f"KV heads of {shapes.head_dim}) needs {list(shape)}: name the backbone that it was trained for"
                )
    return width


def _check_finite(source: str, weights: dict[str, Tensor]) -> None:
    for name, tensor in weights.items():
        bad = int((~tensor.isfinite()).sum())
        if bad:
            raise LocretError(f"{source}: {name} has {bad} values that are NaN or infinite: fetch or train it again")


def _fingerprint(tensors: StateDict, names: dict[int, HeadNames], config: Any) -> tuple[float, ...]:
    """The fingerprint of the backbone, if its weights lie beside the heads; empty otherwise."""
    projection = family_of(config).projections[-1]
    wanted = [f"{names[layer].stem}{projection}.weight" for layer in sampled_layers(len(names))]
    if not all(name in tensors.files for name in wanted):
        return ()
    return fingerprint_of_weights(tensors.read(name) for name in wanted)
