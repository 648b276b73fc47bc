"""The format in which the paper's authors publish retaining heads: two tensors a layer of a model's state dict.

model.layers.{i}.self_attn.fc1.weight   [width, (q_heads + 2 kv_heads) * head_dim]
model.layers.{i}.self_attn.fc2.weight   [kv_heads, width]
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from locret.errors import LocretError
from locret.files import check_writable, write_whole
from locret.models.heads import RetainingHeads
from locret.models.state_dicts import StateDict

# The stem is whatever stands before fc1: a prefix of the whole model, the layer, mostly `self_attn`.
HEAD = re.compile(
    r"(?P<stem>(?:.*\.)?layers\.(?P<layer>\d{1,9})\.(?:(?:self_attn|attention|attn)\.)?)(?P<fc>fc[12])\.weight"
)
EXAMPLE = "model.layers.0.self_attn.fc1.weight"


class HeadNames(NamedTuple):
    """The names of one layer's two tensors."""

    fc1: str
    fc2: str

    @property
    def stem(self) -> str:
        """What the names of all tensors of the same attention module begin with."""
        return self.fc1.removesuffix("fc1.weight")


def has_heads(names: Iterable[str]) -> bool:
    """Whether there are retaining heads among these tensors."""
    return any(HEAD.fullmatch(name) for name in names)


def head_names(source: str, names: Iterable[str]) -> dict[int, HeadNames]:
    """The tensors of the retaining heads, layer -> names; whatever else there is, is passed over.

    Args:
        source: what the user called the state dict, for messages.
        names: all names in it.

    Raises:
        LocretError: none, half a head, or two for one layer.
    """
    found: dict[int, dict[str, str]] = {}
    for name in names:
        match = HEAD.fullmatch(name)
        if match:
            tensors = found.setdefault(int(match["layer"]), {})
            if match["fc"] in tensors:
                raise LocretError(
                    f"{source} has two tensors for one retaining head, {tensors[match['fc']]} and {name}: keep one"
                )
            tensors[match["fc"]] = name
    if not found:
        raise LocretError(f"{source} holds no retaining heads: tensors with names like {EXAMPLE} are expected")
    for layer, tensors in sorted(found.items()):
        if len(tensors) < 2:
            [(half, name)] = tensors.items()
            other = {"fc1": "fc2", "fc2": "fc1"}[half]
            raise LocretError(f"{source} has {name} but no {other} for layer {layer}: fetch the whole file")
    return {layer: HeadNames(**tensors) for layer, tensors in sorted(found.items())}


def to_original(heads: RetainingHeads) -> dict[str, Tensor]:
    """The weights of `heads` under their published names, on the CPU, in the same dtype."""
    return {
        f"model.layers.{layer}.self_attn.{name}": tensor.detach().cpu().contiguous()
        for layer, head in enumerate(heads.layers)
        for name, tensor in head.state_dict().items()
    }


def _save_pickle(tensors: dict[str, Tensor], path: Path) -> None:
    """By way of memory, as torch tells of a full disk in words of its own."""
    data = io.BytesIO()
    torch.save(tensors, data)
    path.write_bytes(data.getbuffer())


_WRITERS: dict[str, Callable[[dict[str, Tensor], Path], object]] = {
    ".safetensors": lambda tensors, path: save_file(tensors, path, metadata={"format": "pt"}),
    ".bin": _save_pickle,
}


def export_heads(heads: RetainingHeads, path: str | Path) -> None:
    """Write `heads` in the published format, whole or not at all.

    Args:
        heads: of any dtype, which is kept.
        path: a .safetensors file, or a .bin file (`torch.save`), which is what the authors' code loads.

    Raises:
        LocretError: another ending, or something at `path` that is no such file; a full disk.
    """
    path = Path(path)
    check_export(path)
    tensors = to_original(heads)
    write_whole(path, lambda temporary: _WRITERS[path.suffix](tensors, temporary))


def check_export(path: Path) -> None:
    """Refuse a path that `export_heads` would not write to."""
    if path.suffix not in _WRITERS:
        raise LocretError(f"{path} is no name for a state dict: give a file that ends in {' or '.join(_WRITERS)}")
    check_writable(path)
    if path.exists() and path.stat().st_size and not _is_export(path):
        raise LocretError(f"{path} exists and is no file of retaining heads alone: choose another name")


def _is_export(path: Path) -> bool:
    try:
        names = StateDict.of_file(str(path), path).files
    except LocretError:  # something else, or damaged
        return False
    return bool(names) and all(HEAD.fullmatch(name) for name in names)
