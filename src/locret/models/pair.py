"""Weights and their configuration are two files: both hold one digest, so that files of two savings are told apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from locret.errors import LocretError
from locret.texts import read_json

PAIR = "pair"  # the key in both files; those of earlier versions have none


def pair_of(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """The digest of a configuration and of the weights that it belongs to, which are on the CPU."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_pair(weights: Path, config: Path) -> None:
    """Refuse two files of two savings: a kill between their renames leaves new weights with the old configuration.

    Raises:
        LocretError: only one of them has a digest, or theirs differ.
    """
    with safe_open(weights, "pt") as file:
        told = (file.metadata() or {}).get(PAIR)
    if told != read_json(config).get(PAIR):
        raise LocretError(
            f"{weights} and {config.name} were not saved together (a saving was broken off, or files were mixed): "
            "save or fetch both again"
        )
