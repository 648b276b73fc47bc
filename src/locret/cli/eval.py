"""`locret eval`: methods compared on questions with known answers."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from locret.cli.common import (
    MOST_SEED,
    ChunkOption,
    DeviceOption,
    DtypeOption,
    HeadsOption,
    JsonOption,
    LocalOption,
    ModelOption,
    Output,
    PositionsOption,
    QueryFirstOption,
    StabilizersOption,
    output,
)

if TYPE_CHECKING:
    from locret.cache.budget import Positions
    from locret.cli.evaluating import Job
    from locret.eval.results import Row


def eval_command(
    model: ModelOption = "builtin",
    heads: HeadsOption = None,
    policies: Annotated[
        str,
        typer.Option(help="Methods (locret, infllm, quant4, locret+quant4 ...) or kvpress:NAME, separated by commas."),
    ] = "full,locret,streaming_llm,random",
    tasks: Annotated[
        str,
        typer.Option(
            help="Tasks, separated by commas: templates (mix, magic ...), synthetic ones (kv_retrieval ...), RULER's "
            "(niah_single_1 ...), BENCHMARK/TASK of original files (leval/coursera); or how far from full attention: "
            "facts, repeat, text."
        ),
    ] = "mix",
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Original files: a file, folder or hub id for all tasks, or TASK=PATH; may be repeated.",
            show_default="what the benchmark's authors keep on the hub",
        ),
    ] = None,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Leave out damaged lines of original files, and say which.")
    ] = False,
    lengths: Annotated[
        str,
        typer.Option(help="Tokens a document, separated by commas; documents of original files are cut to them."),
    ] = "4096",
    budgets: Annotated[
        str, typer.Option(help="Units kept per KV head, or parts of the length (1/16), separated by commas.")
    ] = "1/16",
    samples: Annotated[
        int, typer.Option(help="Questions a cell (documents of facts, repeat, text); a file with fewer gives all.")
    ] = 32,
    keys: Annotated[int | None, typer.Option(help="Facts a document of a template.", show_default="by task")] = None,
    seed: Annotated[
        str, typer.Option(help="Of the documents; several, separated by commas, are cells of their own.")
    ] = "0",
    split: Annotated[
        str, typer.Option(help="Keys: 'heldout' from the built-in model's training, or 'trained'.")
    ] = "heldout",
    filler: Annotated[
        Path | None, typer.Option(help="Haystack: a text or JSONL file, .gz too.", show_default="the Python reference")
    ] = None,
    query_first: QueryFirstOption = False,
    chat: Annotated[bool, typer.Option("--chat/--no-chat", help="Prompts in the tokenizer's chat template.")] = False,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Tokens of an answer at most.", show_default="by task")
    ] = None,
    chunk: ChunkOption = None,
    stabilizers: StabilizersOption = None,
    local: LocalOption = None,
    pin_first: Annotated[
        int, typer.Option("--pin-first", help="First tokens, never evicted, whatever the policy.")
    ] = 0,
    pin_newest: Annotated[
        int, typer.Option("--pin-newest", help="Newest units that no cut evicts, part of every budget.")
    ] = 0,
    positions: PositionsOption = "true",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for results.jsonl and predictions; a run started again goes on from them."),
    ] = None,
    plots: Annotated[bool, typer.Option("--plots", help="Draw scores and heat maps into OUT/plots.")] = False,
    kvpress_output: Annotated[
        Path | None, typer.Option(help="Folder for results as kvpress' own evaluation writes them.")
    ] = None,
    shard: Annotated[str, typer.Option(help="Evaluate only part i of n of the cells: i/n.")] = "0/1",
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine, by Ray.")] = 1,
    merge: Annotated[
        list[Path] | None,
        typer.Option(help="Evaluate nothing: put the results of this folder into OUT; may be repeated."),
    ] = None,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Ask questions with known answers about long documents that are read in fixed memory, and score the answers.

    Every method and budget gets the same documents and questions. What does not go by the budget is read once for all
    budgets.
    """
    from locret.cli.lists import split as values
    from locret.cli.lists import whole_number

    if out is None and (plots or kvpress_output or merge):
        raise typer.BadParameter("--plots, --kvpress-output and --merge work on the files of a run: give --out")
    names = values(policies, "--policies", str)
    task_names = values(tasks, "--tasks", str)
    tokens = values(lengths, "--lengths", int)
    seeds = values(seed, "--seed", whole_number(0, MOST_SEED))
    with output(as_json) as written:
        from locret.cli.evaluating import Job, evaluate
        from locret.eval.grid import BudgetRule, Grid, parse_budget
        from locret.eval.merging import merge as merged
        from locret.eval.planning import parse_shard
        from locret.eval.plots.canvas import load_figure
        from locret.eval.quizzes.data import parse_data
        from locret.eval.results import ResultFile
        from locret.eval.workers import load_ray
        from locret.files import check_writable
        from locret.folders import alone_in

        grid = Grid(
            tasks=task_names,
            lengths=tokens,
            budgets=tuple(parse_budget(word) for word in values(budgets, "--budgets", str)),
            samples=samples,
            seeds=seeds,
            keys=keys,
            split=split,
            query_first=query_first,
            rule=BudgetRule(chunk, stabilizers, local, cast("Positions", positions), pin_first, pin_newest),
            chat=chat,
            max_new_tokens=max_new_tokens,
        )
        sources = parse_data(data or (), str(filler) if filler else None, skip_damaged)
        job = Job(model, heads, names, grid, filler, sources, dtype, device, parse_shard(shard))
        if plots:
            load_figure()
        if kvpress_output:
            check_writable(kvpress_output / "of_a_cell" / "metrics.json")
        if workers > 1:
            load_ray()
        with alone_in(out) if out else nullcontext():
            if merge and out:
                rows = merged(merge, out)
            else:
                for reason in job.check():
                    written.notes.print(f"skipped: {reason}", soft_wrap=True, highlight=False, markup=False)
                rows = evaluate(job, ResultFile(out) if out else None, workers, written.notes)
            _report(written, rows)
            if out:
                _draw(written, job, rows, out, plots, kvpress_output)


def _report(written: Output, rows: list[Row]) -> None:
    """The table, and the rows as JSON."""
    from locret.eval.table import rich_table

    written.console.print(rich_table(rows))
    written.result["results"] = [row.as_json() for row in rows]


def _draw(written: Output, job: Job, rows: list[Row], out: Path, plots: bool, kvpress_output: Path | None) -> None:
    """What is made of the files of a run."""
    from locret.eval.kvpress_output import write_kvpress
    from locret.eval.plots import draw_run

    if plots:
        written.result["plots"] = [str(path) for path in draw_run(rows, out, out / "plots")]
        written.notes.print(f"plots: {out / 'plots'}", soft_wrap=True)
    if kvpress_output:
        folders = write_kvpress(kvpress_output, rows, job.quizzes(), out)
        written.result["kvpress_output"] = [str(folder) for folder in folders]
        written.notes.print(f"as kvpress writes them: {kvpress_output}", soft_wrap=True)
