"""Tables and pictures of the exhibit: written into `docs/real-models.md` and the README between their marks.

Run ``python -m recipes.smollm2.tables``.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from locret.eval.intervals import drawn_interval
from locret.eval.plots.canvas import new_figure, row_of_axes, save
from locret.files import write_text_whole, write_whole
from recipes.smollm2.exhibit import CONFIG, LINES, key, pins_of, read_lines

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DOCUMENT, README = ROOT / "docs" / "real-models.md", ROOT / "README.md"
PICTURE = ROOT / "docs" / "assets" / "smollm2.png"
TASKS = {"facts": "facts", "repeat": "a passage repeated", "text": "the text goes on"}
OWN = "locret"
MAIN = 2048
HEADLINE = ("locret", "streaming_llm", "h2o", "tova", "snapkv", "sirllm")

Line = dict[str, Any]


class Lines:
    """The lines of the exhibit, chosen by setting."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self.lines = list(lines)

    def of(self, length: int, budget: str, contestant: str, pinned: bool) -> list[Line]:
        """Lines of a contestant, by document; `locret` alone is its first seed."""
        named = f"{OWN}:0" if contestant == OWN else contestant
        wanted = (length, named, budget, *pins_of(pinned, length, budget))
        found = [
            line
            for line in self.lines
            if (line["length"], line["contestant"], line["budget"], line["pin_first"], line["pin_newest"]) == wanted
        ]
        return sorted(found, key=lambda line: int(line["document"]))

    def means(self, lines: Sequence[Line], task: str, what: str) -> dict[int, float]:
        """A figure of every document."""
        return {line["document"]: line[task][what] for line in lines}


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95 % interval by document (bootstrap)."""
    low, high = drawn_interval(np.array(values)[:, None], list(range(len(values))))
    mean = float(np.mean(values))
    return mean, mean if low is None else low, mean if high is None else high


def figure_cell(values: Sequence[float], form: Callable[[float], str]) -> str:
    """A mean with its interval."""
    if not values:
        return "-"
    mean, low, high = interval(values)
    return f"{form(mean)} ({form(low)}-{form(high)})" if len(values) > 1 else form(mean)


def three(value: float) -> str:
    """A divergence in nats."""
    return f"{value:.3f}"


def per_cent(value: float) -> str:
    """A share."""
    return f"{100 * value:.0f}"


def absolute_table(
    lines: Lines, length: int, contestants: Sequence[str], budgets: Sequence[str], pinned: bool, what: str
) -> str:
    """A row a contestant, a column a task and budget."""
    form = per_cent if what == "agreement" else three
    head = ["documents", *(f"{task} {budget}" for task in TASKS for budget in budgets)]
    rows = [["kept by", *head], ["---", *("--:" for _ in head)]]
    for name in contestants:
        own = {budget: lines.of(length, budget, name, pinned) for budget in budgets}
        cells = [
            figure_cell(list(lines.means(own[budget], task, what).values()), form)
            for task in TASKS
            for budget in budgets
        ]
        if any(own.values()):
            rows.append([name, str(max(map(len, own.values()))), *cells])
    return markdown(rows)


def paired_table(
    lines: Lines, length: int, rivals: Sequence[str], budgets: Sequence[str], what: str, pinned: bool = True
) -> str:
    """How far locret is from each rival, document by document: the mean difference with its interval."""
    head = ["documents", *(f"{task} {budget}" for task in TASKS for budget in budgets)]
    rows = [["locret minus", *head], ["---", *("--:" for _ in head)]]
    for rival in rivals:
        cells, counts = [], []
        for task in TASKS:
            for budget in budgets:
                own, other = (lines.means(lines.of(length, budget, name, pinned), task, what) for name in (OWN, rival))
                shared = sorted(own.keys() & other.keys())
                counts.append(len(shared))
                cells.append(difference([own[one] - other[one] for one in shared], better=-1 if what == "kl" else 1))
        rows.append([rival, str(max(counts)), *cells])
    return markdown(rows)


def difference(values: Sequence[float], better: int) -> str:
    """A mean difference with its interval; bold where locret is better for sure, italic where it is worse for sure."""
    if not values:
        return "-"
    mean, low, high = interval(values)
    text = f"{mean:+.3f} ({low:+.3f} {high:+.3f})"
    if low * better > 0 and high * better > 0:
        return f"**{text}**"
    return f"*{text}*" if low * better < 0 and high * better < 0 else text


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def sections(lines: Lines) -> dict[str, str]:
    """What stands between the marks of the document, by mark."""
    parts = CONFIG["parts"]
    budgets = parts["main"]["budgets"]
    seeds = ("locret:0", "locret:1", "locret:2")
    more = ("random", "oracle")
    return {
        "main-kl": absolute_table(lines, MAIN, (*HEADLINE, *more), budgets, True, "kl"),
        "main-agreement": absolute_table(lines, MAIN, (*HEADLINE, *more), budgets, True, "agreement"),
        "paired-kl": paired_table(lines, MAIN, HEADLINE[1:], budgets, "kl"),
        "paired-agreement": paired_table(lines, MAIN, HEADLINE[1:], budgets, "agreement"),
        "seeds": absolute_table(only(lines, parts["seeds"]["documents"]), MAIN, seeds, budgets, True, "kl"),
        "bare": absolute_table(lines, MAIN, (OWN, *HEADLINE[2:], "random"), budgets, False, "kl"),
        "half": absolute_table(lines, MAIN, (*HEADLINE, "oracle"), ("1/2",), True, "kl"),
        "presses": absolute_table(lines, MAIN, parts["presses"]["contestants"], budgets, False, "kl"),
        **{
            name: absolute_table(lines, parts[name]["length"], HEADLINE, parts[name]["budgets"], True, "kl")
            for name in ("short", "long", "longest")
        },
    }


def only(lines: Lines, documents: int) -> Lines:
    """The lines of the first so many documents."""
    return Lines(line for line in lines.lines if line["document"] < documents)


def headline(lines: Lines) -> str:
    """The README's table: KL divergence and agreement at 1/8."""
    read = min(len(lines.of(MAIN, "1/8", name, True)) for name in HEADLINE)
    lines = only(lines, read)  # the same documents for all
    columns = [f"{label}: KL, agreement" for label in TASKS.values()]
    rows = [[f"kept by ({read} documents)", *columns], ["---", "--:", "--:", "--:"]]
    for name in HEADLINE:
        own = lines.of(MAIN, "1/8", name, True)
        cells = []
        for task in TASKS:
            kl, agreement = (np.mean(list(lines.means(own, task, what).values())) for what in ("kl", "agreement"))
            cells.append(f"{kl:.3f}, {100 * agreement:.0f} %")
        rows.append([name, *cells])
    return markdown(rows)


def draw(lines: Lines, path: Path) -> Path:
    """KL divergence against the budget, a panel a task."""
    figure = new_figure(12, 3.6)
    budgets = ("1/2", *CONFIG["parts"]["main"]["budgets"])
    for axis, (task, label) in zip(row_of_axes(figure, len(TASKS)), TASKS.items(), strict=True):
        for number, name in enumerate((*HEADLINE, "oracle")):
            points = []
            for at, budget in enumerate(budgets):
                values = list(lines.means(lines.of(MAIN, budget, name, True), task, "kl").values())
                if values:
                    points.append((at, *interval(values)))
            if not points:
                continue
            places, means, lows, highs = zip(*points, strict=True)
            style = "--" if name == "oracle" else "-"
            axis.plot(places, means, style, color=f"C{number}", label=name, linewidth=2.4 if name == OWN else 1.2)
            axis.fill_between(places, lows, highs, color=f"C{number}", alpha=0.12, linewidth=0)
        axis.set_xticks(range(len(budgets)), budgets)
        axis.set_yscale("log")
        axis.set_title(label)
        axis.set_xlabel("kept of 2048 tokens")
    axes = figure.axes
    axes[0].set_ylabel("KL to full attention (nats)")
    axes[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return save(figure, path)


def put(path: Path, marked: dict[str, str]) -> None:
    """Replace what stands between `<!-- name:start -->` and `<!-- name:end -->`."""
    text = path.read_text(encoding="utf-8")
    for name, body in marked.items():
        start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
        before, found, rest = text.partition(start)
        if not found:
            raise SystemExit(f"{path} has no {start}")
        text = f"{before}{start}\n{body}\n{end}{rest.partition(end)[2]}"
    write_text_whole(path, text)


def gather(runs: Path) -> None:
    """Put the lines of a run into the committed file, each once, in order."""
    found = {key(line): line for path in sorted(runs.glob("exhibit-*.jsonl")) for line in read_lines(path)}
    if LINES.exists():
        found = {**{key(line): line for line in read_lines(LINES)}, **found}
    text = "".join(json.dumps(found[one]) + "\n" for one in sorted(found))
    LINES.parent.mkdir(parents=True, exist_ok=True)
    write_whole(LINES, lambda temporary: temporary.write_bytes(gzip.compress(text.encode(), mtime=0)))


def main() -> None:
    """Write everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, help="first gather the lines of this folder")
    arguments = parser.parse_args()
    if arguments.runs:
        gather(arguments.runs)
    lines = Lines(read_lines(LINES))
    put(DOCUMENT, sections(lines))
    put(README, {"smollm2": headline(lines)})
    draw(lines, PICTURE)


if __name__ == "__main__":
    main()
