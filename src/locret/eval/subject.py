"""The identity of what is evaluated."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from locret.eval.results import Subject
from locret.models.fingerprint import old_fingerprint_of
from locret.models.heads import RetainingHeads


def subject_of(
    model: Any, heads: RetainingHeads | None, *, model_name: str, heads_name: str = "", filler: str
) -> Subject:
    """Describe a loaded model with its heads.

    Args:
        model: the backbone.
        heads: its retaining heads, if any were loaded.
        model_name, heads_name, filler: what the user calls them.
    """
    digest = hashlib.sha256(repr(old_fingerprint_of(model)).encode())
    for parameter in heads.parameters() if heads is not None else ():
        digest.update(parameter.detach().float().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return Subject(
        model=model_name,
        heads=heads_name,
        weights=digest.hexdigest()[:12],
        dtype=str(model.dtype).removeprefix("torch."),
        filler=filler,
    )
