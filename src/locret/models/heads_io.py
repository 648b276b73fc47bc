"""Retaining heads on disk: `heads.safetensors` with the weights, `heads.json` with what they were made for."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path

from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from locret.errors import LocretError
from locret.files import write_text_whole, write_whole
from locret.models.heads import HeadsConfig, RetainingHeads

WEIGHTS, CONFIG = "heads.safetensors", "heads.json"
FORMAT = 1


def save_heads(heads: RetainingHeads, folder: Path) -> None:
    """Write both files; the configuration goes last, so a folder that has one is complete."""
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in heads.state_dict().items()}
    write_whole(folder / WEIGHTS, lambda path: save_file(tensors, path, metadata={"format": "pt"}))
    text = json.dumps({"format": FORMAT, **asdict(heads.config)}, indent=2)
    write_text_whole(folder / CONFIG, text + "\n")


def load_heads(path: str | Path) -> RetainingHeads:
    """Read both files from a folder, or from the hub.

    Raises:
        LocretError: they are missing, damaged, or do not fit each other.
    """
    folder = find_heads(path)
    config = _read_config(folder / CONFIG)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise LocretError(f"{folder / WEIGHTS} is missing, damaged or cut short ({error}): fetch it again") from error
    heads = RetainingHeads(config)
    expected = {name: tuple(tensor.shape) for name, tensor in heads.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise LocretError(
                f"{folder / WEIGHTS}: {name} has shape {found.get(name)}, but {CONFIG} says {expected.get(name)}: "
                "the two files do not belong together"
            )
    heads.load_state_dict(tensors)
    heads.to(next(iter(tensors.values())).dtype)
    return heads


def find_heads(path: str | Path) -> Path:
    """The local folder of the heads, fetched from the hub if `path` is not a folder here."""
    folder = Path(path)
    if folder.is_dir():
        if not (folder / CONFIG).is_file():
            raise LocretError(f"{folder} holds no retaining heads: {CONFIG} and {WEIGHTS} are expected there")
        return folder
    try:
        return Path(snapshot_download(str(path), allow_patterns=[WEIGHTS, CONFIG]))
    except Exception as error:  # a lost network surfaces as errors of several libraries
        raise LocretError(
            f"retaining heads {str(path)!r} are neither a folder nor could they be fetched from the hub "
            f"({type(error).__name__}): check the path, or the network"
        ) from error


def _read_config(path: Path) -> HeadsConfig:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        known = {field.name for field in fields(HeadsConfig)}
        values = {key: value for key, value in data.items() if key in known}
        values["fingerprint"] = tuple(float(x) for x in values.get("fingerprint", ()))
        return HeadsConfig(**values)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, AttributeError, TypeError, ValueError) as error:
        raise LocretError(f"{path} is not a configuration of retaining heads ({error}): fetch it again") from error
