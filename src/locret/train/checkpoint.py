"""Checkpoints: heads, AdamW's moments and the step, each checkpoint whole or absent.

A checkpoint is a folder `step-00000100` that is written under a hidden name and then renamed, so a
kill at any moment leaves the earlier ones usable. It is a folder of heads, too:
`RetainingHeads.from_pretrained` reads it. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from locret.errors import LocretError
from locret.files import write_text_whole, write_whole
from locret.models.heads import RetainingHeads
from locret.models.heads_io import CONFIG, WEIGHTS
from locret.texts import read_json
from locret.typed import from_object

OPTIMIZER, STATE = "optimizer.safetensors", "state.json"
PREFIX, UNFINISHED = "step-", ".unfinished-"
KEPT = 2
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True, slots=True)
class State:
    """What stands beside the tensors of a checkpoint: its step, and the SHA-256 of every other file by name."""

    step: int
    sha256: Mapping[str, str]


def save_checkpoint(folder: Path, heads: RetainingHeads, optimizer: torch.optim.Optimizer, step: int) -> Path:
    """Write the checkpoint of a step into `folder`; all but the newest `KEPT` are deleted.

    Raises:
        LocretError: the folder cannot be written or the disk is full; earlier checkpoints stay.
    """
    final = folder / _name(step)
    unfinished = folder / f"{UNFINISHED}{final.name}"
    try:
        _sweep(folder)
        unfinished.mkdir(parents=True)
        heads.save_pretrained(unfinished)
        write_whole(unfinished / OPTIMIZER, partial(save_file, _moments(heads, optimizer)))
        digests = {path.name: _digest(path) for path in sorted(unfinished.iterdir())}
        write_text_whole(unfinished / STATE, json.dumps(asdict(State(step, digests)), indent=2) + "\n")
        _flush(unfinished)
        _discard(final)
        unfinished.rename(final)
        for old in _newest_first(folder)[KEPT:]:
            _discard(old)
    except (OSError, SafetensorError, LocretError) as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        cause = error.__cause__ or error
        reason = getattr(cause, "strerror", None) or str(cause)
        raise LocretError(
            f"could not save the checkpoint of step {step} in {folder}: {reason}: free some space, "
            "then go on with --resume"
        ) from error
    return final


def load_checkpoint(folder: Path, heads: RetainingHeads, optimizer: torch.optim.Optimizer) -> int | None:
    """Restore the newest usable checkpoint in place.

    Returns:
        Its step, or None if `folder` has no checkpoint at all.

    Raises:
        LocretError: there are checkpoints, but every one is damaged or of other heads.
    """
    faults = []
    for path in _newest_first(folder):
        try:
            return _restore(path, heads, optimizer)
        except (OSError, SafetensorError, LocretError, ValueError, KeyError) as error:
            faults.append(f"{path.name}: {error}")
    if faults:
        raise LocretError(
            f"no checkpoint in {folder} is usable ({'; '.join(faults)}): start anew with another "
            "--out, or delete the folder"
        )
    return None


def _restore(path: Path, heads: RetainingHeads, optimizer: torch.optim.Optimizer) -> int:
    state = from_object(State, read_json(path / STATE))
    if path.name != _name(state.step):
        raise LocretError(f"{STATE} says step {state.step}")
    if not {WEIGHTS, CONFIG, OPTIMIZER} <= state.sha256.keys():
        raise LocretError(f"{STATE} does not know all files")
    for name, digest in state.sha256.items():
        if _digest(path / name) != digest:
            raise LocretError(f"{name} is damaged")
    saved = RetainingHeads.from_pretrained(path)
    if saved.config != heads.config:
        raise LocretError("its heads have another configuration")
    moments = load_file(path / OPTIMIZER)
    heads.load_state_dict(saved.state_dict())
    for name, parameter in heads.named_parameters():
        optimizer.state[parameter] = {
            moment: moments[f"{name}.{moment}"].to("cpu" if moment == "step" else parameter.device)
            for moment in MOMENTS
        }
    return state.step


def _moments(heads: RetainingHeads, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's state, by parameter and moment."""
    return {
        f"{name}.{moment}": optimizer.state[parameter][moment].detach().cpu().contiguous()
        for name, parameter in heads.named_parameters()
        for moment in MOMENTS
    }


def _name(step: int) -> str:
    return f"{PREFIX}{step:08d}"


def last_step(folder: Path) -> int | None:
    """After how many steps the newest checkpoint of a folder was made; None where there is none."""
    names = [path.name for path in _newest_first(folder)]
    return int(names[0].removeprefix(PREFIX)) if names else None


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{PREFIX}*"), reverse=True)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _flush(folder: Path) -> None:
    """Make sure that the folder's files are on the disk before they get their final name."""
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _discard(path: Path) -> None:
    """Delete a checkpoint so that no kill leaves half of it under a checkpoint's name."""
    if path.exists():
        doomed = path.with_name(f"{UNFINISHED}old-{path.name}")
        path.rename(doomed)
        shutil.rmtree(doomed)


def _sweep(folder: Path) -> None:
    """Delete what killed runs have left."""
    for path in folder.glob(f"{UNFINISHED}*"):
        shutil.rmtree(path)
