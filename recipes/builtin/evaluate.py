"""Accuracy of the built-in backbone with full attention, from the saved files, in float32.

Run ``python -m recipes.builtin.evaluate --help``.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from locret.eval.haystack import (
    Context,
    Filler,
    answer_ids,
    build_context,
    plain_ids,
    prompt_ids,
    question_ids,
)
from locret.eval.needles import MIX, MIXED_KINDS, templates
from locret.files import write_text_whole
from locret.models.logits import check_logits
from recipes.builtin.tokenizer import BUILTIN

LENGTHS = (512, 1024, 2048, 4096, 8192, 16384, 32000)
HELD_OUT = tuple(template.name for template in templates() if not template.trained)
RESULTS = Path(__file__).parent / "results" / "full_attention.json"


@dataclass(frozen=True)
class Cell:
    """One task at one length; every needle of a context is asked for."""

    kind: str
    needles: int
    length: int
    decoys: int = 0
    keys: str = "trained"
    question_first: bool = False

    @property
    def task(self) -> str:
        """The task's name in the table."""
        parts = [self.kind, f"{self.needles} keys" if self.needles > 1 else "1 key"]
        if self.decoys:
            parts.append(f"{self.decoys} decoys")
        if self.keys != "trained":
            parts.append(f"{self.keys} keys")
        if self.question_first:
            parts.append("question first")
        return ", ".join(parts)


def table_cells(lengths: Sequence[int]) -> list[Cell]:
    """The cells of the published table; fewer above 8K, where reading a document takes seconds."""
    cells = []
    for length in lengths:
        if length > 8192:
            # Eight keys of each kind at once: harder, but one reading serves all four.
            cells.append(Cell("mix", 32, length))
            continue
        for kind in (*MIXED_KINDS, *HELD_OUT):
            cells.append(Cell(kind, 8, length))
        cells.append(Cell("mix", 16, length))
        for kind in (*MIXED_KINDS, *HELD_OUT):
            cells.append(Cell(kind, 16, length))
        cells.append(Cell("passkey", 1, length, decoys=16))
        cells.append(Cell("mix", 16, length, keys="heldout"))
        cells.append(Cell("magic", 8, length, keys="heldout"))
        if length in (512, 4096):
            cells.append(Cell("mix", 16, length, question_first=True))
    return cells


class FullAttention:
    """Asks a model questions about a document; the document is read once for all of them.

    A question counts as answered if, given the right tokens so far, every token of the answer and
    the full stop behind it is the most probable one. Greedy decoding then gives this answer.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model
        self.tokenizer = tokenizer

    @torch.no_grad()
    def right_answers(self, context: Context, question_first: bool = False) -> list[bool]:
        """Whether each needle of the context is found."""
        right = []
        cache: DynamicCache | None = None
        for needle in context.needles:
            if question_first:
                ids = prompt_ids(self.tokenizer, context, needle, question_first=True)
                question = question_ids(self.tokenizer, needle)
                cache = self._read(ids[: -len(question)])
            else:
                cache = cache or self._read(context.document_ids)
                question = question_ids(self.tokenizer, needle)
            expected = answer_ids(self.tokenizer, needle) + plain_ids(self.tokenizer, ".")
            right.append(self._follows(cache, question, expected))
        return right

    def _read(self, ids: Sequence[int]) -> DynamicCache:
        cache = DynamicCache()
        self.model.model(torch.tensor([ids]), past_key_values=cache, use_cache=True)
        return cache

    def _follows(self, cache: DynamicCache, question: list[int], expected: list[int]) -> bool:
        """Whether ``expected`` is the greedy continuation; the cache is left as it was."""
        read = cache.get_seq_length()
        ids = torch.tensor([question + expected[:-1]])
        logits = self.model(ids, past_key_values=cache, logits_to_keep=len(expected)).logits
        cache.crop(read - cache.get_seq_length())
        check_logits(logits)
        return bool(logits[0].argmax(-1).tolist() == expected)


def evaluate_cell(asker: FullAttention, filler: Filler, cell: Cell, questions: int, seed: int) -> dict[str, Any]:
    """Accuracy of one cell over at least ``questions`` questions."""
    # The seed depends on the cell, so that a cell gives the same figure in any table.
    rng = random.Random(zlib.crc32(f"{seed} {cell}".encode()))
    right: list[bool] = []
    kinds: dict[str, list[bool]] = {}
    started = time.time()
    for _ in range(math.ceil(questions / cell.needles)):
        context = build_context(
            asker.tokenizer,
            filler,
            cell.kind,
            cell.length,
            cell.needles,
            rng,
            decoys=cell.decoys,
            keys=cell.keys,
        )
        answers = asker.right_answers(context, cell.question_first)
        right += answers
        for needle, answer in zip(context.needles, answers, strict=True):
            kinds.setdefault(needle.kind, []).append(answer)
    result = {
        **asdict(cell),
        "task": cell.task,
        "questions": len(right),
        "accuracy": _share(right),
        "seconds": round(time.time() - started, 1),
    }
    if cell.kind == MIX:
        result["by_kind"] = {kind: _share(answers) for kind, answers in kinds.items()}
    return result


def _share(answers: list[bool]) -> float:
    return round(sum(answers) / len(answers), 4)


def markdown(results: list[dict[str, Any]]) -> str:
    """The results as a table, a task a row and a length a column."""
    lengths = sorted({result["length"] for result in results})
    rows: dict[str, dict[int, float]] = {}
    for result in results:
        rows.setdefault(result["task"], {})[result["length"]] = result["accuracy"]
    lines = ["| task | " + " | ".join(map(str, lengths)) + " |", "|---" * (len(lengths) + 1) + "|"]
    for task in sorted(rows):
        figures = (f"{rows[task][n]:.3f}" if n in rows[task] else "-" for n in lengths)
        lines.append(f"| {task} | " + " | ".join(figures) + " |")
    return "\n".join(lines)


def kept_cells(path: Path, configuration: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells of an earlier run with the same configuration, which are not measured again."""
    if not path.exists():
        return []
    report = json.loads(path.read_text(encoding="utf-8"))
    return list(report["cells"]) if report["configuration"] == configuration else []


def main() -> None:
    """Evaluate and write the results as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=BUILTIN)
    parser.add_argument("--filler", type=Path, help="text file; the Python reference otherwise")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--kinds", nargs="+", help="only these kinds")
    parser.add_argument("--questions", type=int, default=104, help="at least so many a cell")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(BUILTIN)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    asker = FullAttention(model, tokenizer)
    path = arguments.filler
    filler = Filler.python_reference() if path is None else Filler.from_file(path)
    configuration = {
        "model": arguments.model.name,
        "parameters": model.num_parameters(),
        "filler": "pydoc_data.topics" if path is None else path.name,
        "seed": arguments.seed,
        "measure": "greedy answer and full stop exact",
        "dtype": "float32",
        "attention": "full",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    results = kept_cells(arguments.out, configuration)
    for cell in table_cells(arguments.lengths):
        if arguments.kinds and cell.kind not in arguments.kinds:
            continue
        if any(asdict(cell).items() <= result.items() for result in results):
            continue
        results.append(evaluate_cell(asker, filler, cell, arguments.questions, arguments.seed))
        print(json.dumps(results[-1]), flush=True)
        # Written after every cell: the long ones take minutes each.
        report = {"configuration": configuration, "cells": results}
        write_text_whole(arguments.out, json.dumps(report, indent=1) + "\n")
    print(markdown(results))


if __name__ == "__main__":
    main()
