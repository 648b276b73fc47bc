"""The parts of `locret bench`: what takes part, bars while it runs, tables when it is over."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from locret.bench.contestants import Contestant, Engined
from locret.bench.measure import OUT_OF_MEMORY, Row, Watch
from locret.bench.profile import profile_reading
from locret.bench.random_weights import random_heads, random_model
from locret.bench.roofline import measure_machine, roofline
from locret.cache.budget import Budget
from locret.cli.common import Output
from locret.cli.loading import Loaded, load
from locret.cli.progress import reading_bar
from locret.errors import LocretError
from locret.eval.table import human_bytes
from locret.memory import check_room
from locret.models.families import text_config
from locret.models.loading import DTYPES, auto_dtype
from locret.models.placement import find_device
from locret.plan import find_config, sizes_of
from locret.plan.scoring import USES_HEADS

TOKEN_BYTES = 44  # of an id in a tensor, then in a list
COLUMNS = ("method", "length", "read tok/s", "of limit", "first s", "write tok/s", "peak", "KV")


def load_for_bench(
    model: str, heads: str | None, random_weights: bool, width: int, dtype: str, device: str, seed: int
) -> Loaded:
    """A model with heads, random ones where there are no others: time does not depend on what they say.

    Raises:
        LocretError: as `load`, or an unknown dtype or device.
    """
    loaded = _at_random(model, dtype, device, seed) if random_weights else load(model, heads, dtype, device)
    loaded.model.generation_config.eos_token_id = None  # answers to random tokens are as long as they are wanted
    return replace(loaded, tokenizer=None, heads=loaded.heads or random_heads(loaded.model, width, seed))


def _at_random(name: str, dtype: str, device: str, seed: int) -> Loaded:
    if dtype not in DTYPES:
        raise LocretError(f"dtype is {dtype!r}: choose one of {', '.join(DTYPES)}")
    config = find_config(name)
    where = find_device(device)
    precision: Any = auto_dtype(config, where.type == "cuda") if dtype == "auto" else DTYPES[dtype]
    if where.type == "cpu":
        needed = sizes_of(config).weights.nbytes(precision.itemsize)
        check_room(f"model {name!r} in {str(precision).removeprefix('torch.')}", needed, "name a smaller shape")
    return Loaded(random_model(config, precision, where, seed), None, None)


def check_ids(count: int) -> None:
    """Refuse so many tokens that not even their ids fit the memory.

    Raises:
        LocretError: with both sizes.
    """
    check_room(f"a prompt of {count} tokens", TOKEN_BYTES * count, "give smaller --lengths")


def unreadable(out: Output, contestants: Sequence[Contestant], lengths: Sequence[int], new_tokens: int) -> list[Row]:
    """Rows without a measurement for lengths that somebody cannot read; they are told, before anything is read.

    Raises:
        LocretError: that is so for all of them.
    """
    refused = {}
    for length in lengths:
        try:
            for contestant in contestants:
                contestant.check(length + new_tokens - 1)  # the last token is written, and not read
        except LocretError as error:
            refused[length] = str(error)
    if len(refused) == len(set(lengths)):
        raise LocretError(refused[lengths[0]])
    for why in refused.values():
        out.notes.print(f"left out: {why}", markup=False, highlight=False, soft_wrap=True)
    return [Row(each.name, length, new_tokens, (), why) for length, why in refused.items() for each in contestants]


def random_ids(model: Any, count: int, seed: int) -> list[int]:
    """A prompt of random tokens."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(text_config(model.config).vocab_size, (count,), generator=generator).tolist()


@contextmanager
def watching(console: Console, total: int, repeats: int) -> Iterator[Watch]:
    """A bar for the run at hand, and one for all of them, `total` tokens together."""
    with reading_bar(console) as bar:
        whole, task = bar.add_task("all", total=total), bar.add_task("", total=None)
        before = 0

        def watch(name: str, length: int, repeat: int) -> Callable[[int, int], None]:
            nonlocal before
            start, before = before, before + length
            bar.reset(task, total=length, description=f"{name}, {length} tokens, round {repeat} of {repeats}")

            def progress(done: int, _: int) -> None:
                bar.update(task, completed=done)
                bar.update(whole, completed=start + done)

            return progress

        yield watch


def setting(loaded: Loaded, budget: Budget, name: str, random_weights: bool) -> dict[str, Any]:
    """What was measured on what, for the JSON object."""
    device = loaded.model.device
    cuda = device.type == "cuda"
    return {
        "model": name,
        "random_weights": random_weights,
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        "device": torch.cuda.get_device_name(device) if cuda else platform.processor() or platform.machine(),
        "threads": None if cuda else torch.get_num_threads(),
        "torch": torch.__version__,
        "budget": asdict(budget),
    }


def table(rows: Sequence[Row]) -> Table:
    """One line a row."""
    shown = Table(box=SIMPLE_HEAD, padding=0)
    for name in COLUMNS:
        shown.add_column(
            name, justify="left" if name == "method" else "right", no_wrap=name != "method", overflow="fold"
        )
    for row in rows:
        if not row.runs:
            short = row.reason if row.reason == OUT_OF_MEMORY else "left out"
            shown.add_row(row.policy, str(row.length), short, *[""] * (len(COLUMNS) - 3))
            continue
        to_limit = row.over("limit", rows)
        shown.add_row(
            row.policy,
            str(row.length),
            f"{row.prefill_rate:.0f}",
            "" if to_limit is None else f"{to_limit:.2f}",
            f"{row.median('first_seconds'):.2f}",
            "" if row.decode_rate is None else f"{row.decode_rate:.1f}",
            human_bytes(row.median("peak_bytes") or 0),
            human_bytes(row.median("kv_bytes") or 0),
        )
    return shown


def profiles(
    out: Output,
    loaded: Loaded,
    contestants: Sequence[Contestant],
    ids: Sequence[int],
    rows: Sequence[Row],
    budget: Budget,
) -> None:
    """Read the longest prompt once more with every method of the engine, and compare with the roofline."""
    device, dtype = loaded.model.device, loaded.model.dtype
    machine, sizes = measure_machine(device, dtype), sizes_of(loaded.model.config)
    assert loaded.heads is not None
    measured = {row.policy: row for row in rows if row.length == len(ids) and row.runs}
    found = []
    for contestant in (each for each in contestants if isinstance(each, Engined) and each.name in measured):
        policy = contestant.engine.policy.name
        ideal = roofline(
            sizes, machine, len(ids), budget, policy=policy, element=dtype.itemsize,
            heads=loaded.heads.beside(loaded.model).active if policy in USES_HEADS else 0,
        )  # fmt: skip
        seconds = measured[contestant.name].median("prefill_seconds") or 0.0
        parts = profile_reading(contestant, ids, device)
        found.append(
            {
                "policy": contestant.name,
                "length": len(ids),
                "parts": [asdict(part) for part in parts],
                "roofline": {**asdict(ideal), "of_measured": ideal.seconds / seconds},
            }
        )
        shares = ", ".join(f"{part.name} {100 * part.share:.0f} %" for part in parts if part.share >= 0.005)
        out.console.print(f"{contestant.name}: {shares}", soft_wrap=True)
        out.console.print(
            f"{' ' * len(contestant.name)}  roofline {ideal.seconds:.2f} s, {100 * ideal.seconds / seconds:.0f} % of "
            f"{seconds:.2f} s measured",
            soft_wrap=True,
        )
    out.result["profile"] = found
    out.result["machine"] = asdict(machine)
    out.console.print(
        f"this machine: {machine.flops / 1e12:.2f} TFLOP/s in {str(dtype).removeprefix('torch.')} products, "
        f"{machine.bandwidth / 1e9:.1f} GB/s in copies",
        soft_wrap=True,
    )
