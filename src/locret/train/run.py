"""A whole training run: from a backbone and data files to a folder with trained heads."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from locret.errors import LocretError
from locret.folders import alone_in
from locret.models.families import text_config
from locret.models.fingerprint import fingerprint_of
from locret.models.heads import RetainingHeads
from locret.train.checkpoint import load_checkpoint, save_checkpoint
from locret.train.config import TrainConfig
from locret.train.folder import RunFolder, identity_of
from locret.train.loop import StepReport, Trainer, make_optimizer
from locret.train.records import Records
from locret.train.samples import SampleMaker

AVERAGED = 50  # the summary's loss and recall are means over this many last steps


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run came to.

    Attributes:
        steps: optimiser steps of the whole run, resumed parts included.
        loss: mean over the last 50 steps.
        recall: top-k recall, 0 to 1, mean over the last 50 steps.
        seconds: wall time of this call.
        out: the folder with the heads.
    """

    steps: int
    loss: float
    recall: float
    seconds: float
    out: str


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is told what: `notice` gets remarks on the settings, `step` a report after each step."""

    notice: Callable[[str], None] = lambda text: None
    step: Callable[[StepReport], None] = lambda report: None


def train_heads(
    model: nn.Module,
    tokenizer: Any,
    config: TrainConfig,
    records: Records,
    out: str | Path,
    accelerator: Accelerator,
    start: RetainingHeads | None = None,
    resume: bool = False,
    save_every: int = 100,
    watch: Watch | None = None,
) -> Summary:
    """Train retaining heads for `model` and save them in `out`.

    With several processes every one calls this; the first one writes, all must see `out`.

    Args:
        model: the backbone, on the accelerator's device.
        tokenizer: the model's; not used where all records are tokens.
        config: hyper-parameters.
        records: the training data.
        out: folder of the run.
        accelerator: device and processes.
        start: heads to go on from, instead of fresh ones; their width counts.
        resume: go on from the newest checkpoint in `out`, if there is a run.
        save_every: steps between checkpoints.
        watch: who is told of the progress.

    Raises:
        LocretError: the folder is in use, also by another process, the resumed run was another one, bad data, a full
            disk.
    """
    began, watch, folder = time.monotonic(), watch or Watch(), RunFolder(Path(out))
    given, config = config, _within_window(config, model)
    if start is not None:
        config = replace(config, width=start.config.width)
    heads = _initial_heads(model, config, start)
    model.eval()
    heads.to(accelerator.device)
    trainer = Trainer(
        model=model,
        heads=heads,
        config=config,
        records=records,
        make_sample=SampleMaker(tokenizer, config.max_length, text_config(model.config).vocab_size),
        accelerator=accelerator,
        optimizer=make_optimizer(heads, config),
    )
    trainer.check_records()
    identity = identity_of(config, records, heads) | {"start": _digest(start)}
    with alone_in(folder.path) if accelerator.is_main_process else nullcontext():
        if accelerator.is_main_process:
            folder.claim(identity, resume)
        accelerator.wait_for_everyone()
        for text in [*_cut(given, config), *config.notices]:
            watch.notice(text)
        trainer.step = load_checkpoint(folder.checkpoints, heads, trainer.optimizer) or 0
        _check_same_step(trainer.step, folder, accelerator)
        if accelerator.is_main_process:
            folder.forget_after(trainer.step)
        for report in trainer.run():
            if accelerator.is_main_process:
                folder.log(report)
                if report.step % save_every == 0 or report.step == config.steps:
                    save_checkpoint(folder.checkpoints, heads, trainer.optimizer, report.step)
            watch.step(report)
        if accelerator.is_main_process:
            heads.save_pretrained(folder.path)
        accelerator.wait_for_everyone()
    last = folder.rows()[-AVERAGED:]
    return Summary(
        steps=trainer.step,
        loss=_mean([row.loss for row in last]),
        recall=_mean([row.recall for row in last]),
        seconds=time.monotonic() - began,
        out=str(folder.path),
    )


def _within_window(config: TrainConfig, model: nn.Module) -> TrainConfig:
    window = getattr(text_config(model.config), "max_position_embeddings", config.max_length)
    return replace(config, max_length=min(config.max_length, window))


def _cut(given: TrainConfig, used: TrainConfig) -> list[str]:
    if given.max_length == used.max_length:
        return []
    return [f"samples are cut to {used.max_length} tokens, the model's window, not {given.max_length}"]


def _initial_heads(model: nn.Module, config: TrainConfig, start: RetainingHeads | None) -> RetainingHeads:
    """Float32 heads that know what they are trained for: fresh ones by the seed, or a copy."""
    fingerprint = fingerprint_of(model)
    if start is not None:
        start.check_fits(model)
        copy = RetainingHeads(replace(start.config, objective=config.objective, fingerprint=fingerprint))
        copy.load_state_dict(start.state_dict())
        return copy
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return RetainingHeads.from_config(
            model.config, config.width, objective=config.objective, fingerprint=fingerprint
        )


def _check_same_step(step: int, folder: RunFolder, accelerator: Accelerator) -> None:
    """Wait for all processes, and make sure that they have read the same checkpoint."""
    steps = accelerator.gather(torch.tensor([step], device=accelerator.device)).tolist()
    if len(set(steps)) > 1:
        raise LocretError(
            f"the processes found checkpoints of different steps {steps} in {folder.path}: all machines must see one "
            "and the same --out folder"
        )


def _mean(figures: list[float]) -> float:
    return sum(figures) / len(figures) if figures else math.nan


def _digest(heads: RetainingHeads | None) -> str | None:
    """SHA-256 of the weights of the heads that a run starts from."""
    if heads is None:
        return None
    digest = hashlib.sha256()
    for tensor in heads.state_dict().values():
        digest.update(tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()
