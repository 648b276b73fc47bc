"""`locret train`: learn what a model should keep, from prompts with answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from locret.cli.common import MOST_SEED, MOST_WIDTH, DeviceOption, JsonOption, ModelOption, output

if TYPE_CHECKING:
    from locret.train.loop import StepReport
    from locret.train.run import Watch

SMOOTHING = 0.05  # weight of the newest step in the loss and recall that the progress bar shows


def train_command(
    data: Annotated[list[str], typer.Option(help="JSON lines (also .gz) or a hub id; may be repeated.")],
    out: Annotated[Path, typer.Option(help="Folder for heads, checkpoints and loss curve.")],
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE]...", help="Further files, as if after --data.")
    ] = None,
    model: ModelOption = "builtin",
    heads: Annotated[str | None, typer.Option(help="Heads to go on from, instead of fresh ones.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 3000,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 5e-4,
    warmup: Annotated[
        int | None, typer.Option(min=0, help="Steps of warm-up.", show_default="2000, or 2/3 of fewer steps")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples a step, over all processes.")] = 1,
    max_length: Annotated[int, typer.Option(min=8, help="Tokens of a sample; the middle of more is cut out.")] = 10240,
    width: Annotated[int, typer.Option(min=1, max=MOST_WIDTH, help="Hidden width of fresh heads.")] = 1024,
    objective: Annotated[str, typer.Option(help="logits (the paper's), softmax or log_softmax.")] = "logits",
    smoothness: Annotated[float, typer.Option(min=0, help="Weight of the smoothness term.")] = 0.0025,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Of fresh heads and of the samples' order.")] = 42,
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16 (auto: bfloat16 on CUDA).")] = "auto",
    device: DeviceOption = "auto",
    save_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 100,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train retaining heads for a frozen model.

    The data are JSON lines: ShareGPT `conversations`, `prompt` and `answer`, or a `context` with several `questions`.
    On several GPUs or machines: `accelerate launch -m locret.cli.app train ...`.
    """
    with output(as_json) as written:
        from locret.models.heads import RetainingHeads
        from locret.models.loading import load_model
        from locret.train.config import TrainConfig
        from locret.train.folder import RunFolder
        from locret.train.launch import default_dtype, make_accelerator
        from locret.train.records import read_records
        from locret.train.run import train_heads

        accelerator = make_accelerator(device)
        if accelerator.is_main_process:
            RunFolder(out).check_free(resume)
        config = TrainConfig(
            steps=steps,
            lr=lr,
            warmup=warmup,
            batch_size=batch_size,
            max_length=max_length,
            smoothness=smoothness,
            width=width,
            objective=objective,
            seed=seed,
            dtype=default_dtype(accelerator.device) if dtype == "auto" else dtype,
        )
        records = read_records([*data, *(more or [])])
        start = None if heads is None else RetainingHeads.from_pretrained(heads)
        backbone, tokenizer, _ = load_model(model, config.dtype, str(accelerator.device))
        with _watching(written.notes, steps, accelerator.is_main_process) as watch:
            summary = train_heads(
                backbone, tokenizer, config, records, out, accelerator, start, resume, save_every, watch
            )
        accelerator.end_training()
        if not accelerator.is_main_process:
            raise typer.Exit  # the first process reports for all
        written.result.update(asdict(summary))
        written.console.print(
            f"{summary.steps} steps, loss {summary.loss:.4f}, recall {summary.recall:.1%}, "
            f"{summary.seconds:.0f} s: the heads are in {summary.out}",
            soft_wrap=True,
        )


@contextmanager
def _watching(console: Console, steps: int, shown: bool) -> Iterator[Watch]:
    """A bar with the running loss and recall; remarks go above it."""
    from locret.train.run import Watch

    if not shown:
        yield Watch()
        return
    figures = TextColumn("loss {task.fields[loss]:.4f}  recall {task.fields[recall]:.1%}")
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), figures, TimeRemainingColumn())
    bar = Progress(*columns, console=console)
    task = bar.add_task("", total=steps, loss=0.0, recall=0.0)
    running: dict[str, float] = {}

    def step(report: StepReport) -> None:
        for key in ("loss", "recall"):
            value = float(getattr(report.measures, key))
            running[key] = running.get(key, value) * (1 - SMOOTHING) + value * SMOOTHING
        bar.update(task, completed=report.step, loss=running["loss"], recall=running["recall"])
        bar.start()  # once there is something to show; again does nothing

    def notice(text: str) -> None:
        console.print(f"note: {text}", soft_wrap=True)

    try:
        yield Watch(notice, step)
    finally:
        if bar.live.is_started:
            bar.stop()
