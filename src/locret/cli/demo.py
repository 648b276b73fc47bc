"""`locret demo`: the built-in model reads a long document in fixed memory and answers, beside its rivals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from locret.cli.common import JsonOption, Output, output

if TYPE_CHECKING:
    from locret.cli.watching import BarWatch
    from locret.eval.results import Row

POLICIES = ("full", "locret", "streaming_llm", "random")
SHOWN = "locret"
FACTS = 16
MARGIN = 2


def demo_command(
    length: Annotated[int, typer.Option(help="Tokens of the document.")] = 16384,
    budget: Annotated[str, typer.Option(help="Units kept per KV head, or a part of the length.")] = "1/16",
    seed: Annotated[int, typer.Option(help="Another seed hides other facts.")] = 0,
    out: Annotated[Path, typer.Option(help="The picture: a PNG of what was kept.")] = Path("runs/demo.png"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Hide 16 facts in the Python language reference, read it in fixed memory, and ask for them.

    Shows what was kept, and how locret does beside full attention, StreamingLLM and random eviction.
    """
    with output(as_json) as written:
        from locret.cli.loading import load
        from locret.cli.watching import BarWatch
        from locret.eval.grid import Grid, parse_budget
        from locret.eval.haystack import Filler
        from locret.eval.runner import Reader, run_grid
        from locret.eval.subject import subject_of
        from locret.eval.table import rich_table

        grid = Grid(
            tasks=("mix",), lengths=(length,), budgets=(parse_budget(budget),), samples=FACTS, seeds=(seed,), keys=FACTS
        )
        loaded = load("builtin", None, "auto", device)
        subject = subject_of(loaded.model, loaded.heads, model_name="builtin", filler="python_reference")
        written.notes.print(f"{FACTS} facts are hidden in {length} tokens of the Python language reference")
        with BarWatch(written.notes, keep_pictures=True) as watch:
            reader = Reader(
                loaded.model,
                loaded.tokenizer,
                {name: loaded.policy(name) for name in POLICIES},
                Filler.python_reference(),
                watch,
            )
            rows = run_grid(reader, grid, subject)
        written.console.print(rich_table(rows))
        written.result["results"] = [row.as_json() for row in rows]
        _show(written, watch, rows, out)


def _show(written: Output, watch: BarWatch, rows: list[Row], path: Path) -> None:
    """The strip in the terminal, and the picture of every policy that evicts."""
    from locret.errors import LocretError
    from locret.eval.picture import save_picture
    from locret.eval.strip import strip
    from locret.eval.table import human_bytes

    bars, needles = strip(watch.kept[SHOWN], written.console.width - 2 * MARGIN)
    for line in (f"what {SHOWN} kept, from the first token to the last:", bars, needles):
        written.console.print(" " * MARGIN + line, no_wrap=True, highlight=False)
    written.console.print(" " * MARGIN + "▲ a fact that was found   △ one that was not")
    panels = {
        f"{row.cell.policy}: {row.measures.score:.0f} % right, {human_bytes(row.measures.kv_bytes)} of KV cache": (
            watch.kept[row.cell.policy]
        )
        for row in rows
    }
    title = f"What is kept of {rows[0].cell.length} tokens; triangles are hidden facts: green found, red not"
    try:
        save_picture(path, panels, title)
    except LocretError as error:
        written.notes.print(str(error))
    else:
        written.notes.print(f"picture: {path}")
        written.result["picture"] = str(path)
