"""Token ids as callers give them: lists, arrays, tensors, or what a tokenizer returns. Nothing is rounded to an id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from locret.errors import LocretError

TokenIds: TypeAlias = "Sequence[int] | Tensor | Mapping[str, Any]"
WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32)
REMEDY = "give whole numbers, as a tokenizer makes them"


def token_ids(given: Any, vocabulary: int) -> Tensor:
    """The ids of one prompt: int64 [1, tokens] on the CPU.

    Args:
        given: ids [tokens] or [1, tokens] as a sequence, an array of numpy or a tensor; or the `BatchEncoding` that a
            tokenizer returns for one text, without padding.
        vocabulary: how many ids the model knows.

    Raises:
        LocretError: there are several prompts or padding, or something is no id that the model knows; it is named.
    """
    if isinstance(given, Mapping):
        given = _unpadded(given)
    ids = _tensor(given, vocabulary)
    ids = ids[None] if ids.dim() == 1 else ids
    if ids.dim() != 2 or ids.shape[0] != 1:
        raise LocretError(
            f"prompt has shape {tuple(ids.shape)}: the engine reads one prompt at a time, [tokens] or [1, tokens]; "
            "for batches give a BudgetCache to model.generate"
        )
    check_ids(ids, vocabulary)
    return ids.long()


def check_ids(ids: Tensor, vocabulary: int) -> None:
    """Refuse a tensor of what are no ids of a model; its values are looked at.

    Raises:
        LocretError: with the first that is none.
    """
    if ids.numel() == 0:
        return
    if ids.dtype not in WHOLE:
        raise LocretError(f"token ids are of {ids.dtype}, the first is {ids.flatten()[0].item()}: {REMEDY}")
    ids = ids.long()
    outside = ids[(ids < 0) | (ids >= vocabulary)]
    if outside.numel():
        raise _outside(int(outside[0]), vocabulary)


def _unpadded(encoding: Mapping[str, Any]) -> Any:
    if "input_ids" not in encoding:
        raise LocretError(f"the prompt is a mapping with {sorted(map(str, encoding))} and without input_ids: {REMEDY}")
    mask = encoding.get("attention_mask")
    if mask is not None and not bool(_on_cpu(mask).all()):
        raise LocretError("attention_mask hides tokens of the prompt: give the ids of one prompt, without padding")
    return encoding["input_ids"]


def _tensor(given: Any, vocabulary: int) -> Tensor:
    """A tensor in the type of its values."""
    row = given[0] if isinstance(given, list | tuple) and len(given) == 1 else given
    if isinstance(row, list | tuple):
        _check_row(row, vocabulary)
    try:
        return _on_cpu(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise LocretError(
            f"the prompt is a {type(given).__name__} that holds no token ids of one prompt: {REMEDY}"
        ) from error


def _on_cpu(given: Any) -> Tensor:
    """Where values can be looked at, whatever device new tensors are made on."""
    return given.cpu() if isinstance(given, Tensor) else torch.as_tensor(given, device="cpu")


def _check_row(row: Sequence[Any], vocabulary: int) -> None:
    """Look at what is in a list: as a tensor, all of it would have the type of one of them.

    Raises:
        LocretError: with the first that is no id.
    """
    kinds = set(map(type, row))
    if kinds == {int} and min(row) >= 0 and max(row) < vocabulary:  # at the speed of C, as prompts are long
        return
    for index, token in enumerate(row):
        if isinstance(token, bool | float | str):
            raise LocretError(f"token id {token!r} at index {index} is no whole number: {REMEDY}")
        if isinstance(token, int) and not 0 <= token < vocabulary:
            raise _outside(token, vocabulary)


def _outside(token: int, vocabulary: int) -> LocretError:
    return LocretError(f"token id {token} is outside the vocabulary of {vocabulary}: check the tokenizer")
