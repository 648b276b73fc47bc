"""`locret score`: the score that a benchmark's own scorer gives to a file of predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from locret.cli.common import JsonOption, output

DECIMALS = 4


def score_command(
    benchmark: Annotated[str, typer.Option(help="infinitebench, leval or ruler.")],
    predictions: Annotated[Path, typer.Option(help="Prediction file in the benchmark's own format, plain or .gz.")],
    task: Annotated[
        str | None, typer.Option(help="The benchmark's task.", show_default="what the file is named after")
    ] = None,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Leave out lines that cannot be scored, and say which.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Score predictions as the benchmark's authors do, 0 to 100; no model is needed."""
    with output(as_json) as written:
        import numpy as np

        from locret.eval.benchmarks.base import details
        from locret.eval.benchmarks.catalogue import get_benchmark_task, task_of_file
        from locret.eval.benchmarks.damaged import Skipped
        from locret.eval.benchmarks.damaged import predictions as whole_lines
        from locret.eval.benchmarks.jsonl import stop

        chosen = task_of_file(benchmark, predictions) if task is None else get_benchmark_task(benchmark, task)
        skipped = Skipped()
        lines = whole_lines(chosen, predictions, skipped if skip_damaged else stop)
        for reason in skipped.reasons:
            written.notes.print(f"skipped: {reason}", soft_wrap=True, highlight=False, markup=False)
        figures = {"score": chosen.score(lines), **details(chosen, lines)}
        written.result.update({name: np.round(figure, DECIMALS).tolist() for name, figure in figures.items()})
        if skip_damaged:
            written.result["skipped"] = len(skipped.reasons)
        told = ", ".join(f"{name} {figure}" for name, figure in written.result.items())
        written.console.print(f"{benchmark} {chosen.name}: {told}", soft_wrap=True)
