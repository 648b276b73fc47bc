"""Tables and a plot out of what `evaluate` and `policies` wrote: `results/tables.md`, the README and a PNG.

Run ``python -m recipes.builtin.tables``.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from locret.eval.lines import LineFile
from locret.files import write_text_whole, write_whole

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parents[2] / "README.md"
PLOT = Path(__file__).parents[2] / "docs" / "assets" / "score_by_budget.png"
START, END = "<!-- results:start -->", "<!-- results:end -->"
SHARES = (8, 16, 32)
HEADLINE = ("magic 8", "entry 8", "word 8", "record 8", "magic 16", "mix 16")

Row = dict[str, Any]
Found = dict[tuple[str, int], dict[str, dict[int, list[float]]]]  # (task, length) -> policy -> budget share -> scores


def read_rows() -> list[Row]:
    """All rows of all shards."""
    files = sorted((RESULTS / "policies").glob("*/results.jsonl"))
    return [line for file in files for line in LineFile(file).lines]


def task_of(row: Row) -> str:
    """The name of a row's task in the tables."""
    held_out = "" if row["split"] == "trained" else ", held-out keys"
    template = ", held-out template" if row["task"] in ("code", "city") else ""
    return f"{row['task']} {row['keys']}{template}{held_out}{', question first' if row['query_first'] else ''}"


def collect(rows: Iterable[Row]) -> Found:
    """Scores by task, length, policy and budget; the seeds of locret's heads come together."""
    found: Found = {}
    for row in rows:
        by_policy = found.setdefault((task_of(row), row["length"]), {})
        policy = row["policy"].split("/")[0]
        share = 1 if policy == "full" else row["length"] // row["budget"]
        by_policy.setdefault(policy, {}).setdefault(share, []).append(row["score"])
    return found


def cell(scores: list[float] | None) -> str:
    """A score, or the mean of several seeds with their range."""
    if not scores:
        return "-"
    if len(scores) == 1:
        return f"{scores[0]:.1f}"
    return f"{statistics.mean(scores):.1f} ({min(scores):.1f}-{max(scores):.1f})"


def policy_table(found: Found, tasks: Iterable[str] | None = None) -> str:
    """A line for each task and length; locret as mean and range over its training seeds."""
    columns = ["task, keys", "length", "full"]
    columns += [f"{name} 1/{share}" for name in ("locret", "streaming_llm", "random") for share in SHARES]
    lines = ["| " + " | ".join(columns) + " |", "|---|--:|" + "--:|" * (len(columns) - 2)]
    for (task, length), by_policy in found.items():
        if tasks is not None and task not in tasks:
            continue
        figures = [cell(by_policy.get("full", {}).get(1))]
        for name in ("locret", "streaming_llm", "random"):
            figures += [cell(by_policy.get(name, {}).get(share)) for share in SHARES]
        lines.append(f"| {task} | {length} | " + " | ".join(figures) + " |")
    return "\n".join(lines)


def full_attention_table() -> str:
    """Full attention by task and length, as `evaluate` printed it."""
    from recipes.builtin.evaluate import markdown

    path = RESULTS / "full_attention.json"
    return markdown(json.loads(path.read_text(encoding="utf-8"))["cells"]) if path.exists() else ""


def plot(found: Found, path: Path) -> None:
    """Mean score over the headline tasks against the budget, a panel a length."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    lengths = sorted({length for _, length in found})
    figure, axes = plt.subplots(1, len(lengths), figsize=(4.2 * len(lengths), 3.2), sharey=True, layout="constrained")
    for axis, length in zip(axes, lengths, strict=True):
        tasks = [found[task, length] for task in HEADLINE if (task, length) in found]
        full = statistics.mean(score for by_policy in tasks for score in by_policy["full"][1])
        axis.axhline(full, color="black", linestyle=":", label="full")
        for name in ("locret", "streaming_llm", "random"):
            means = [statistics.mean(s for by_policy in tasks for s in by_policy[name][share]) for share in SHARES]
            axis.plot([f"1/{share}" for share in SHARES], means, marker="o", label=name)
        axis.set(title=f"{length} tokens", xlabel="budget, part of the length", ylim=(-3, 103))
    axes[0].set_ylabel("right answers, %")
    axes[-1].legend(loc="center right")
    write_whole(path, lambda temporary: figure.savefig(temporary, format="png", dpi=110))


def main() -> None:
    """Write all tables, put the headline one into the README, draw the plot."""
    found = collect(read_rows())
    text = f"# Full attention\n\n{full_attention_table()}\n\n# Policies\n\n{policy_table(found)}\n"
    write_text_whole(RESULTS / "tables.md", text)
    readme = README.read_text(encoding="utf-8")
    before, rest = readme.split(START)
    after = rest.split(END)[1]
    write_text_whole(README, f"{before}{START}\n{policy_table(found, HEADLINE)}\n{END}{after}")
    plot(found, PLOT)
    print(text)


if __name__ == "__main__":
    main()
