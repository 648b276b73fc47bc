"""The pictures of the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from locret.eval.plots import needle_heatmap, score_by_budget, score_by_kv_bytes
from locret.eval.plots.heat import Found
from locret.eval.results import Row
from recipes.report.pooled import Pooled
from recipes.report.run import Part


def curves(part: Part, rows: Sequence[Row], folder: Path) -> Path:
    """Score against the budget."""
    return score_by_budget(rows, folder / f"{part.name}.png", part.name.replace("_", " "))


def quality_by_bytes(part: Part, rows: Sequence[Row], folder: Path) -> Path:
    """Score against the bytes that are held."""
    return score_by_kv_bytes(rows, folder / f"{part.name}.png", part.name.replace("_", " "))


def heat_maps(results: Sequence[Pooled], share: int, folder: Path) -> list[Path]:
    """For each method at 1/`share` of every length: how often facts are found, by depth and length."""
    drawn = []
    for method in dict.fromkeys(one.method for one in results):
        own = [one for one in results if one.method == method and one.setting.budget * share == one.setting.length]
        found = [Found(one.setting.length, line["depth"], line["score"]) for one in own for line in one.lines.values()]
        if found:
            path = folder / f"depth__{method.replace('+', '-')}.png"
            drawn.append(needle_heatmap(found, path, f"{method}, 1/{share} kept"))
    return drawn
