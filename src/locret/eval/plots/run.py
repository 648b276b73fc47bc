"""All plots of a run, from its rows and prediction files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from locret.eval.plots.curves import score_by_budget, score_by_kv_bytes
from locret.eval.plots.heat import Found, needle_heatmap
from locret.eval.predictions import read_predictions
from locret.eval.results import Row


def draw_run(rows: Sequence[Row], results: Path, out: Path) -> list[Path]:
    """Scores against budget and bytes for each task, and a heat map for each task, policy and budget with depths.

    Args:
        rows: what was evaluated.
        results: the folder with the predictions; where it has none, there is no heat map.
        out: the folder for the PNGs.

    Returns:
        The files.

    Raises:
        LocretError: matplotlib is not installed, or a file cannot be written.
    """
    drawn = []
    for task in dict.fromkeys(row.cell.task for row in rows):
        own = [row for row in rows if row.cell.task == task]
        drawn.append(score_by_budget(own, out / f"budget__{_plain(task)}.png", task))
        drawn.append(score_by_kv_bytes(own, out / f"kv_bytes__{_plain(task)}.png", task))
        for name, of_map in _maps(own).items():
            found = found_by(of_map, results)
            if found:
                drawn.append(needle_heatmap(found, out / f"heat__{_plain(f'{task}__{name}')}.png", f"{task}, {name}"))
    return drawn


def found_by(rows: Sequence[Row], results: Path) -> list[Found]:
    """Every fact with a known depth that was asked for in some rows, from their predictions."""
    return [
        Found(row.cell.length, line["depth"], line["score"])
        for row in rows
        for line in read_predictions(results, row)
        if line["depth"] is not None
    ]


def _maps(rows: Sequence[Row]) -> Mapping[str, list[Row]]:
    """Rows of one policy and budget: the same units at every length, or else the same part of each length."""
    maps: dict[str, list[Row]] = {}
    for policy in dict.fromkeys(row.cell.policy for row in rows):
        own = [row for row in rows if row.cell.policy == policy]
        sizes: dict[int, set[int]] = {}
        for row in own:
            sizes.setdefault(row.cell.length, set()).add(row.cell.budget.size)
        absolute = len(set(map(frozenset, sizes.values()))) == 1
        for row in own:
            size, length = row.cell.budget.size, row.cell.length
            budget = f"budget {size}" if absolute else f"budget {size / length:.2g} of the length"
            maps.setdefault(f"{policy}, {budget if size < length else 'no eviction'}", []).append(row)
    return maps


def _plain(name: str) -> str:
    """A name that any file system takes."""
    return re.sub(r"[^\w.-]+", "-", name)
