"""The documents of a cell: the same for every policy and budget."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from locret.eval.grid import Cell
from locret.eval.haystack import Context, Filler
from locret.eval.tasks import get_task


def contexts(cell: Cell, tokenizer: Any, filler: Filler) -> Iterator[Context]:
    """Documents with `cell.samples` questions in all, `cell.keys` in each, fewer in the last.

    A document depends on task, length, keys, split, seed and its index alone.
    """
    task = get_task(cell.task)
    for index, first in enumerate(range(0, cell.samples, cell.keys)):
        rng = random.Random(f"{cell.task}/{cell.length}/{cell.keys}/{cell.split}/{cell.seed}/{index}")
        context = task.build(tokenizer, filler, cell.length, cell.keys, rng, cell.split)
        asked = cell.samples - first
        yield replace(context, needles=context.needles[:asked], positions=context.positions[:asked])
