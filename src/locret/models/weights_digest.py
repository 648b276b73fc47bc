"""Weights and their configuration are two files: the configuration names the weights by a digest of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from locret.errors import LocretError
from locret.texts import read_json

DIGEST = "weights_sha256"  # the key in a configuration; those of earlier versions have none


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names and bits of weights on the CPU."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_digest(tensors: Mapping[str, Tensor], config: Path) -> None:
    """Refuse weights that are not those of the configuration.

    A configuration takes its place before its weights do (`save_heads`), so that a kill between the two is seen here.

    Raises:
        LocretError: they are others; a configuration of earlier versions does not know its weights.
    """
    known = read_json(config).get(DIGEST)
    if known is not None and known != digest_of(tensors):
        raise LocretError(
            f"the weights beside {config} are not those that were saved with it (a saving was broken off, or files "
            "were mixed or damaged): save or fetch both again"
        )
