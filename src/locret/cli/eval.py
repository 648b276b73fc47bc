"""`locret eval`: policies compared on questions with known answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from locret.cli.common import (
    ChunkOption,
    DeviceOption,
    DtypeOption,
    HeadsOption,
    JsonOption,
    LocalOption,
    ModelOption,
    PositionsOption,
    StabilizersOption,
    output,
)

if TYPE_CHECKING:
    from locret.cache.budget import Positions


def eval_command(
    model: ModelOption = "builtin",
    heads: HeadsOption = None,
    policies: Annotated[
        str, typer.Option(help="Policies, or kvpress:NAME, separated by commas.")
    ] = "full,locret,streaming_llm,random",
    tasks: Annotated[str, typer.Option(help="Tasks, separated by commas.")] = "mix",
    lengths: Annotated[str, typer.Option(help="Tokens a document, separated by commas.")] = "4096",
    budgets: Annotated[
        str, typer.Option(help="Units kept per KV head, or parts of the length (1/16), separated by commas.")
    ] = "1/16",
    samples: Annotated[int, typer.Option(help="Questions a cell.")] = 32,
    keys: Annotated[int | None, typer.Option(help="Facts a document.", show_default="by task")] = None,
    seed: Annotated[
        str, typer.Option(help="Of the documents; several, separated by commas, are cells of their own.")
    ] = "0",
    split: Annotated[
        str, typer.Option(help="Keys: 'heldout' from the built-in model's training, or 'trained'.")
    ] = "heldout",
    filler: Annotated[
        Path | None, typer.Option(help="Haystack: a text or JSONL file, .gz too.", show_default="the Python reference")
    ] = None,
    query_first: Annotated[
        bool, typer.Option("--query-first", help="The question also stands before the document.")
    ] = False,
    chunk: ChunkOption = None,
    stabilizers: StabilizersOption = None,
    local: LocalOption = None,
    positions: PositionsOption = "true",
    out: Annotated[
        Path | None, typer.Option(help="Folder for results.jsonl; a run started again goes on from it.")
    ] = None,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Hide facts in long documents, read them in fixed memory, and count right answers.

    Every policy and budget gets the same documents and questions. A policy that evicts nothing is read once for all
    budgets.
    """
    from locret.cli.lists import split as values
    from locret.cli.lists import whole_number

    names = values(policies, "--policies", str)
    task_names = values(tasks, "--tasks", str)
    tokens = values(lengths, "--lengths", whole_number)
    seeds = values(seed, "--seed", whole_number)
    with output(as_json) as written:
        from locret.cli.loading import check_policies, load
        from locret.cli.watching import BarWatch
        from locret.eval.grid import BudgetRule, Grid, parse_budget
        from locret.eval.haystack import Filler
        from locret.eval.results import ResultFile
        from locret.eval.runner import Reader, run_grid
        from locret.eval.subject import subject_of
        from locret.eval.table import rich_table

        check_policies(names, presses=True)
        grid = Grid(
            tasks=task_names,
            lengths=tokens,
            budgets=tuple(parse_budget(word) for word in values(budgets, "--budgets", str)),
            samples=samples,
            seeds=seeds,
            keys=keys,
            split=split,
            query_first=query_first,
            rule=BudgetRule(chunk, stabilizers, local, cast("Positions", positions)),
        )
        haystack = Filler.from_file(filler) if filler else Filler.python_reference()
        results = ResultFile(out) if out else None
        loaded = load(model, heads, dtype, device)
        subject = subject_of(
            loaded.model,
            loaded.heads,
            model_name=model,
            heads_name=heads or "",
            filler=filler.name if filler else "python_reference",
        )
        with BarWatch(written.notes) as watch:
            reader = Reader(
                loaded.model, loaded.tokenizer, {name: loaded.compared(name) for name in names}, haystack, watch
            )
            rows = run_grid(reader, grid, subject, results)
        written.console.print(rich_table(rows))
        written.result["results"] = [row.as_json() for row in rows]
