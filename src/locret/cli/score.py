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
    as_json: JsonOption = False,
) -> None:
    """Score predictions as the benchmark's authors do, 0 to 100; no model is needed."""
    with output(as_json) as written:
        import numpy as np

        from locret.eval.benchmarks.base import details
        from locret.eval.benchmarks.catalogue import get_benchmark_task, task_of_file
        from locret.eval.benchmarks.jsonl import read_jsonl

        chosen = get_benchmark_task(benchmark, task) if task else task_of_file(benchmark, predictions)
        lines = [record.fields for record in read_jsonl(predictions)]
        figures = {"score": chosen.score(lines), **details(chosen, lines)}
        written.result.update({name: np.round(figure, DECIMALS).tolist() for name, figure in figures.items()})
        told = ", ".join(f"{name} {figure}" for name, figure in written.result.items())
        written.console.print(f"{benchmark} {chosen.name}: {told}", soft_wrap=True)
