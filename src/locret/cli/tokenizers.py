"""Tokenizers without their models."""

from __future__ import annotations

from typing import Any

from transformers import AutoTokenizer

from locret.errors import LocretError
from locret.models.loading import BUILTIN


def load_tokenizer(name: str) -> Any:
    """The tokenizer of "builtin", a folder or a hub id; no weights are read.

    Raises:
        LocretError: there is none.
    """
    try:
        return AutoTokenizer.from_pretrained(str(BUILTIN) if name == "builtin" else name)
    except Exception as error:  # transformers raises whatever its parts raise
        raise LocretError(
            f"the tokenizer of {name!r} could not be loaded ({type(error).__name__}): "
            "check the folder, the id or the network"
        ) from error
