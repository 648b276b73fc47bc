"""The plot of docs/speed.md: reading speed of the contestants, and where the time of locret goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from locret.eval.plots.canvas import new_figure, save

COLOURS = {"locret": "#1f77b4", "limit": "#9aa0a6", "full": "#c8342f", "transformers": "#e08e45"}
PARTS = ("attention", "projections", "mlp", "scores", "eviction", "cache", "output layer", "other")
SHADES = ("#1f3b57", "#2f6690", "#5a91b8", "#c8342f", "#e08e45", "#f2c078", "#9aa0a6", "#d5d8db")


def draw(parts: dict[str, Any], path: Path) -> None:
    """A panel of bars for each model's reading, and one of the shares; what was not measured is left out.

    Raises:
        LocretError: matplotlib is not installed, or the file cannot be written.
    """
    reads = {name.partition("/")[2]: part for name, part in parts.items() if name.startswith("prefill/")}
    shares = {name.partition("/")[2]: part for name, part in parts.items() if name.startswith("profile/")}
    panels = len(reads) + bool(shares)
    if not panels:
        return
    figure = new_figure(3.4 * panels, 2.8)
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    for axis, (model, part) in zip(axes, reads.items(), strict=False):
        _bars(axis, model, part)
    if shares:
        _stacks(axes[-1], shares)
    save(figure, path)


def _bars(axis: Any, model: str, part: dict[str, Any]) -> None:
    rows = [row for row in part["rows"] if row["prefill_seconds"] is not None]
    length = part["config"]["subject"]["length"]
    for place, row in enumerate(rows):
        rates = [length / seconds for seconds in row["prefill_seconds_all"]]
        rate = row["prefill_tokens_per_second"]
        axis.bar(place, rate, color=COLOURS.get(row["policy"], "#555555"))
        axis.plot([place] * len(rates), rates, "_", color="black", markersize=8)
        axis.text(place, 0.02 * rate, f"{rate:.0f}", ha="center", va="bottom", fontsize=7, color="white")
    axis.set_xticks(range(len(rows)), [row["policy"] for row in rows], fontsize=7)
    axis.set_title(f"{model}\nreading {length} tokens, tokens/s", fontsize=8)
    axis.tick_params(axis="y", labelsize=7)


def _stacks(axis: Any, shares: dict[str, Any]) -> None:
    bottoms = [0.0] * len(shares)
    for name, colour in zip(PARTS, SHADES, strict=True):
        found = [{own["name"]: own["share"] for own in part["parts"]}.get(name, 0.0) for part in shares.values()]
        axis.bar(range(len(shares)), found, bottom=bottoms, color=colour, label=name)
        bottoms = [bottom + share for bottom, share in zip(bottoms, found, strict=True)]
    axis.set_xticks(range(len(shares)), [model.replace(", ", "\n") for model in shares], fontsize=7)
    axis.set_title("locret: where reading spends its time", fontsize=8)
    axis.tick_params(axis="y", labelsize=7)
    axis.legend(fontsize=6, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
