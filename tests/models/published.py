"""Retaining heads the way the paper's authors publish them, and a hub that is a folder."""

from __future__ import annotations

import fnmatch
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import locret
from locret.models.families import attention_modules
from tests.conftest import tiny_llama

WIDTH = 16


def tiny_heads(model: nn.Module, seed: int = 5) -> locret.RetainingHeads:
    torch.manual_seed(seed)
    return locret.RetainingHeads.from_config(model.config, width=WIDTH, objective="logits")


def heads_alone(prefix: str = "model.layers.{}.self_attn.", model: nn.Module | None = None) -> dict[str, Tensor]:
    """The state dict of heads, under any prefix."""
    heads = tiny_heads(model or tiny_llama())
    return {
        prefix.format(layer) + name: tensor.detach().clone()
        for layer, head in enumerate(heads.layers)
        for name, tensor in head.state_dict().items()
    }


def whole_model(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of a model with the heads inside its attention modules."""
    places = {id(module): name for name, module in model.named_modules()}
    stems = [places[id(module)] for module in attention_modules(model)]
    heads = tiny_heads(model)
    added = {
        f"{stem}.{name}": tensor.detach().clone()
        for stem, head in zip(stems, heads.layers, strict=True)
        for name, tensor in head.state_dict().items()
    }
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()} | added


def save_tensors(tensors: dict[str, Any], path: Path) -> Path:
    """As .safetensors, or by `torch.save`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, path)
    else:
        torch.save(tensors, path)
    return path


def save_sharded(tensors: dict[str, Tensor], folder: Path, shards: Sequence[str], stem: str) -> Path:
    """The tensors in turn over several files, as transformers does it: in the order of the state dict."""
    names = list(tensors)
    size = -(-len(names) // len(shards))
    weight_map = {name: shards[i // size] for i, name in enumerate(names)}
    for shard in shards:
        save_tensors({name: tensors[name] for name in names if weight_map[name] == shard}, folder / shard)
    (folder / f"{stem}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


class FolderHub:
    """A stand-in for `snapshot_download`: the repository is a folder, the files asked for are copied to another."""

    def __init__(self, repository: Path, cache: Path) -> None:
        self.repository = repository
        self.cache = cache
        self.names: list[str] = []

    def __call__(
        self, name: str, allow_patterns: Sequence[str] = ("*",), ignore_patterns: Sequence[str] = (), **_: object
    ) -> str:
        self.names.append(name)
        self.cache.mkdir(exist_ok=True)
        for path in sorted(self.repository.rglob("*")):
            place = path.relative_to(self.repository).as_posix()
            wanted = any(fnmatch.fnmatch(place, pattern) for pattern in allow_patterns)
            ignored = any(fnmatch.fnmatch(place, pattern) for pattern in ignore_patterns)
            if path.is_file() and wanted and not ignored:
                target = self.cache / place
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
        return str(self.cache)

    def fetched(self) -> list[str]:
        return sorted(path.relative_to(self.cache).as_posix() for path in self.cache.rglob("*") if path.is_file())
