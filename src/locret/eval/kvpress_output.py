"""Results in the folders that kvpress' own evaluation writes, for its leaderboard and notebooks.

A folder holds all tasks of one benchmark under one policy and budget: `predictions.csv`, `metrics.json`, `config.yaml`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from locret.errors import LocretError
from locret.eval.grid import Cell
from locret.eval.judging import judge
from locret.eval.predictions import read_predictions
from locret.eval.quizzes.maker import QuizMaker
from locret.eval.quizzes.names import Kind, benchmark_task, kind_of
from locret.eval.results import Row
from locret.files import text_writer, write_together

COLUMNS = ("context", "question", "answer_prefix", "answer", "task", "max_new_tokens", "predicted_answer")
TEMPLATES = "locret"  # stands for a benchmark in the names of folders
FORCED = "locret_fidelity"
STRING_MATCH = frozenset({TEMPLATES, "ruler"})
ANSWERS = ("prediction", "pred", "locret_pred")

Lines = Sequence[Mapping[str, Any]]


def write_kvpress(out: Path, rows: Sequence[Row], quizzes: QuizMaker, results: Path) -> list[Path]:
    """Write a folder for each benchmark, policy, budget, length and seed among the rows.

    Args:
        out: the folder of these folders.
        rows: what was evaluated.
        quizzes: makes the questions' texts again.
        results: the folder with the predictions.

    Returns:
        The folders.

    Raises:
        LocretError: a row has no predictions, or the disk is full.
    """
    grouped: dict[Path, list[Row]] = {}
    for row in rows:
        grouped.setdefault(out / _name(row), []).append(row)
    for folder, of_folder in grouped.items():
        cells = [(row.cell, _predictions(results, row)) for row in of_folder]
        write_together({
            folder / "predictions.csv": partial(_write_csv, cells=cells, quizzes=quizzes),
            folder / "metrics.json": text_writer(json.dumps(_metrics(cells), indent=2) + "\n"),
            folder / "config.yaml": text_writer(_yaml(_config(of_folder))),
        })  # fmt: skip
    return list(grouped)


def _predictions(results: Path, row: Row) -> Lines:
    lines = read_predictions(results, row)
    if not lines:
        raise LocretError(
            f"{results} has a row but no predictions of {row.cell.policy}, {row.cell.task}: it is of an earlier "
            "version; remove the row, or choose another folder"
        )
    return lines


def _write_csv(path: Path, cells: Sequence[tuple[Cell, Lines]], quizzes: QuizMaker) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for cell, lines in cells:
            writer.writerows(_records(cell, lines, quizzes))


def _records(cell: Cell, predictions: Lines, quizzes: QuizMaker) -> Iterator[dict[str, Any]]:
    quiz = quizzes.quiz(cell)
    answers = {line["uid"]: next((line[name] for name in ANSWERS if name in line), None) for line in predictions}
    for passage in quiz.passages():
        for question in passage.questions:
            texts, predicted = quiz.texts(question), answers.get(question.uid)
            if predicted is None:
                raise LocretError(
                    f"there is no prediction for question {question.uid} of {cell.policy}, {cell.task}: name the same "
                    "model, data and filler as the run did"
                )
            yield {
                "context": texts.context,
                "question": texts.question,
                "answer_prefix": texts.answer_prefix,
                "answer": texts.answer,
                "task": cell.task.rpartition("/")[2],
                "max_new_tokens": quiz.max_new_tokens,
                "predicted_answer": predicted,
            }


def _metrics(cells: Sequence[tuple[Cell, Lines]]) -> dict[str, Any]:
    metrics = {}
    for cell, lines in cells:
        name = "string_match" if _benchmark(cell.task) in STRING_MATCH else "score"
        judged = judge(cell.task, lines)
        metrics[cell.task.rpartition("/")[2]] = {name: round(judged.score, 2), **judged.parts}
    return metrics


def _config(rows: Sequence[Row]) -> dict[str, Any]:
    """Kvpress' own settings, and behind them ours."""
    cell, subject = rows[0].cell, rows[0].subject
    return {
        "dataset": _benchmark(cell.task),
        "data_dir": str(cell.length),
        "model": subject.model,
        "device": None,
        "press_name": cell.policy,
        "compression_ratio": _ratio(cell),
        "key_channel_compression_ratio": None,
        "fraction": 1.0,
        "max_new_tokens": cell.max_new_tokens,
        "max_context_length": cell.length,
        "compress_questions": cell.query_first,
        "needle_depth": None,
        "model_kwargs": {"dtype": subject.dtype},
        "press_init_command": repr(cell.budget),
        "seed": cell.seed,
        "samples": {row.cell.task.rpartition("/")[2]: row.cell.samples for row in rows},
        "budget": cell.budget.size,
        "chunk": cell.budget.chunk,
        "positions": cell.budget.positions,
        "heads": subject.heads,
        "chat": cell.chat,
    }


def _yaml(settings: Mapping[str, Any]) -> str:
    """Top-level keys a line each; a value in JSON is one in YAML."""
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in settings.items())


def _name(row: Row) -> str:
    cell = row.cell
    parts = [_benchmark(cell.task), str(cell.length), row.subject.model, cell.policy, f"{_ratio(cell):.2f}"]
    parts += [f"budget{cell.budget.size}", f"seed{cell.seed}"]
    parts += [word for word, said in (("query_first", cell.query_first), ("chat", cell.chat)) if said]
    return "__".join(parts).replace("/", "--").replace(":", "-")


def _ratio(cell: Cell) -> float:
    """The part of the units that is not kept."""
    return round(max(0.0, 1 - cell.budget.size / cell.length), 4)


def _benchmark(task: str) -> str:
    made_here = {Kind.TEMPLATE: TEMPLATES, Kind.FORCED: FORCED}
    return made_here.get(kind_of(task)) or benchmark_task(task).benchmark
