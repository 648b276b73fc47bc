"""Retaining heads on disk: `heads.safetensors` with the weights, `heads.json` with what they were made for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from locret.errors import LocretError
from locret.files import check_writable, text_writer, write_together
from locret.models.card import Card, make_card
from locret.models.heads_config import HeadsConfig
from locret.models.placement import PLAIN
from locret.models.weights_digest import DIGEST, check_digest, digest_of
from locret.texts import read_json
from locret.typed import from_object

WEIGHTS, CONFIG, README = FILES = ("heads.safetensors", "heads.json", "README.md")
FORMAT = 2  # 1 had fingerprints of four weights a layer, which are still checked


def save_heads(
    config: HeadsConfig, tensors: Mapping[str, Tensor], folder: Path, card: Card | None = None, place: str = ""
) -> None:
    """Write all files or none; the configuration goes first and knows its weights, so a kill before them is seen.

    Args:
        config: what the heads were made for.
        tensors: their weights, of any dtype, which is kept.
        folder: is made if need be.
        card: what to tell in a README.md; without it none is written.
        place: the hub id that the card names, if it is not to be the folder.
    """
    plain = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    told = {"format": FORMAT, **asdict(config), DIGEST: digest_of(plain)}
    files = {folder / CONFIG: text_writer(_as_json(told))}
    if card is not None:
        dtype = next(iter(plain.values())).dtype
        files[folder / README] = text_writer(str(make_card(config, dtype, card, place or str(folder))))
    files[folder / WEIGHTS] = lambda path: save_file(plain, path, metadata={"format": "pt"})
    write_together(files)


def check_folder(folder: Path) -> None:
    """Refuse a folder in which saving heads would touch something else.

    Raises:
        LocretError: it is a file, it holds anything but retaining heads, or nothing can be put there.
    """
    if folder.exists() and not folder.is_dir():
        raise LocretError(f"{folder} is a file: retaining heads are written into a folder, choose another name")
    foreign = sorted(path.name for path in folder.glob("*") if path.name not in FILES and path.name[0] != ".")
    if foreign:
        raise LocretError(f"{folder} holds {foreign[0]}, which is no part of retaining heads: choose a new folder")
    check_writable(folder / CONFIG)


def load_heads(path: str | Path) -> tuple[HeadsConfig, dict[str, Tensor]]:
    """Read both files from a folder, or from the hub: what the heads were made for, and their weights by name.

    Raises:
        LocretError: they are missing, damaged, or do not fit each other.
    """
    folder = find_heads(path)
    config = read_config(folder / CONFIG)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise LocretError(f"{folder / WEIGHTS} is missing, damaged or cut short ({error}): fetch it again") from error
    if len(tensors) != config.layers * len(config.head_tensors):  # before as many names are made as it may say
        raise LocretError(
            f"{folder / WEIGHTS} has {len(tensors)} tensors, but {CONFIG} says {config.layers} layers of "
            f"{len(config.head_tensors)}: the two files do not belong together"
        )
    expected = config.tensors
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise LocretError(
                f"{folder / WEIGHTS}: {name} has shape {found.get(name)}, but {CONFIG} says {expected.get(name)}: "
                "the two files do not belong together"
            )
    check_numbers(str(folder / WEIGHTS), tensors)
    check_digest(tensors, folder / CONFIG)
    return config, tensors


def check_numbers(source: str, tensors: Mapping[str, Tensor], dtypes: Sequence[torch.dtype] = PLAIN) -> None:
    """Refuse weights of heads that are no plain floating point numbers, or not all of one dtype.

    Args:
        source: what the user called them, for messages.
        tensors: by name.
        dtypes: those they may have.

    Raises:
        LocretError: naming a tensor, and the dtypes there may be.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in dtypes or tensor.layout is not torch.strided or tensor.is_meta:
            raise LocretError(
                f"{source}: {name} is a {_short(tensor.layout)} tensor of {_short(tensor.dtype)}: save it dense "
                f"as one of {', '.join(map(_short, dtypes))}"
            )
    found = sorted({_short(tensor.dtype) for tensor in tensors.values()})
    if len(found) > 1:
        raise LocretError(f"{source} mixes {' and '.join(found)} in its retaining heads: save them in one dtype")


def find_heads(path: str | Path) -> Path:
    """The local folder of the heads, fetched from the hub if `path` is not a folder here."""
    folder, remedy = Path(path), f"`locret convert {path} FOLDER` makes them of published heads"
    if folder.is_dir():
        if not (folder / CONFIG).is_file():
            raise LocretError(f"{folder} holds no retaining heads: {CONFIG} and {WEIGHTS} are expected there; {remedy}")
        return folder
    if folder.is_file():
        raise LocretError(f"{folder} is a file: give the folder with {CONFIG} and {WEIGHTS}; {remedy}")
    try:
        folder = Path(snapshot_download(str(path), allow_patterns=[WEIGHTS, CONFIG]))
    except Exception as error:  # a lost network surfaces as errors of several libraries
        raise LocretError(
            f"retaining heads {str(path)!r} are neither a folder nor could they be fetched from the hub "
            f"({type(error).__name__}): check the path, or the network"
        ) from error
    if not (folder / CONFIG).is_file():
        raise LocretError(f"the hub repository {path} has no {CONFIG}: {remedy}")
    return folder


def _as_json(values: dict[str, Any]) -> str:
    """One line a value, as fingerprints are hundreds of numbers."""
    lines = (f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in values.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def read_config(path: Path) -> HeadsConfig:
    """What the heads of a folder were made for, by its `heads.json`.

    Raises:
        LocretError: the file is missing or damaged.
    """
    try:
        return from_object(HeadsConfig, read_json(path))
    except LocretError as error:
        raise LocretError(f"{path} is not a configuration of retaining heads ({error}): fetch it again") from error


def _short(value: torch.dtype | torch.layout) -> str:
    return str(value).removeprefix("torch.")
