"""`locret demo`: a model reads a document in fixed memory and answers, beside its rivals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from locret.cli.common import LONGEST, MOST_SEED, HeadsOption, JsonOption, ModelOption, Output, output

POLICIES = ("full", "locret", "streaming_llm", "random")
SHOWN = "locret"
FACTS = 16
LENGTH = 16384
BUDGET, CHAT_BUDGET = "1/16", "1/2"


def demo_command(
    model: ModelOption = "builtin",
    heads: HeadsOption = None,
    length: Annotated[
        int | None,
        typer.Option(min=1, max=LONGEST, help="Tokens of the built-in model's document.", show_default=str(LENGTH)),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Units kept per KV head, or a part of the length.",
            show_default=f"{BUDGET}, with other models {CHAT_BUDGET}",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=MOST_SEED, help="Another seed hides other facts from the built-in model.", show_default="0"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The picture: a PNG of what was kept.")] = Path("runs/demo.png"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Read a document in fixed memory and ask about it, and show what was kept.

    The built-in model looks for 16 facts that are hidden in the Python language reference; a chat model, such as
    smollm2, answers questions about a guide to an island. Beside locret: full attention, StreamingLLM and, for the
    built-in model, random eviction.
    """
    with output(as_json) as written:
        from locret.files import check_writable

        check_writable(out)
        if model == "builtin":
            _hidden_facts(
                written,
                heads,
                LENGTH if length is None else length,
                BUDGET if budget is None else budget,
                seed or 0,
                out,
                device,
            )
            return
        if length is not None or seed is not None:
            raise typer.BadParameter("--length and --seed are for the built-in model: others read one guide as it is")

        from locret.cli.demo_chat import ask_about_guide

        ask_about_guide(written, model, heads, CHAT_BUDGET if budget is None else budget, out, device)


def _hidden_facts(
    written: Output, heads: str | None, length: int, budget: str, seed: int, out: Path, device: str
) -> None:
    """Hide 16 facts in the Python language reference, read it, and ask for them."""
    from locret.cli.kept import show_kept
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
    loaded = load("builtin", heads, "auto", device)
    subject = subject_of(
        loaded.model, loaded.heads, model_name="builtin", heads_name=heads or "", filler="python_reference"
    )
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
    show_kept(written, watch.kept, rows, out, SHOWN, "hidden facts")
