"""RULER's 13 tasks: parameters, how their files are read, and how predictions are scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locret.errors import LocretError
from locret.eval.benchmarks.base import Example, register_benchmark_task
from locret.eval.benchmarks.damaged import examples
from locret.eval.benchmarks.jsonl import Damaged, Record, read_jsonl, stop
from locret.eval.ruler.contract import Generator
from locret.eval.ruler.cwe import CommonWords
from locret.eval.ruler.fwe import FrequentWords
from locret.eval.ruler.niah import Niah
from locret.eval.ruler.qa import QuestionAnswering
from locret.eval.ruler.questions import read_hotpot, read_squad
from locret.eval.ruler.score import match_all, match_any, tidy
from locret.eval.ruler.vt import VariableTracking

BENCHMARK = "ruler"
UNCUT = -1  # RULER's predictions say so of a prompt that was not truncated


@dataclass(frozen=True, slots=True)
class RulerTask:
    """One of the 13 tasks.

    Attributes:
        name: as RULER calls it.
        max_new_tokens: tokens of an answer at most; a prompt leaves room for them.
        generator: makes samples.
        match: how much of the references an answer contains, 0 to 1.
        benchmark: always "ruler".
    """

    name: str
    max_new_tokens: int
    generator: Generator
    match: Callable[[str, Sequence[str]], float] = match_all
    benchmark: str = BENCHMARK

    def load(self, path: Path, damaged: Damaged = stop) -> Iterator[Example]:
        """The samples of a file made by `write_records`, or by RULER itself.

        Raises:
            LocretError: it cannot be read, or a line is no sample.
        """
        return examples(read_jsonl(path, damaged), lambda number, record: [self.example(number, record)], damaged)

    def example(self, number: int, record: Record) -> Example:
        """The example of one sample; `number` is its index if it has none."""
        before, document, question = self.generator.wording.split(record.text("input"))
        index = record.fields.get("index", number)
        return Example(
            uid=str(index),
            before=before,
            document=document,
            question=question,
            label=record.texts("outputs"),
            answer_prefix=record.text("answer_prefix") if "answer_prefix" in record.fields else "",
            extra={"index": index, "length": record.fields.get("length", 0)},
        )

    def prediction(self, example: Example, text: str) -> dict[str, Any]:
        """The line of a prediction file, with the fields that RULER's own scorer reads."""
        return {
            "index": example.extra["index"],
            "pred": text,
            "input": example.before + example.document + example.question,
            "outputs": example.label,
            "others": {},
            "truncation": UNCUT,
            "length": example.extra["length"],
        }

    def check(self, record: Record) -> None:
        """It has an answer and references."""
        self._match(record)

    def score(self, predictions: Sequence[Mapping[str, Any]]) -> float:
        """Mean of the matches times 100, to two places as RULER gives it.

        Raises:
            LocretError: there are no predictions, or one lacks a field.
        """
        if not predictions:
            raise LocretError(f"no predictions of {self.name} to score: give a file with at least 1 line")
        matches = [self._match(Record(f"prediction {i}", line)) for i, line in enumerate(predictions, start=1)]
        return round(sum(matches) / len(matches) * 100, 2)

    def _match(self, line: Record) -> float:
        references = line.texts("outputs") if "outputs" in line.fields else [line.text("output")]
        if not references:
            raise LocretError(f"{line.place} has no reference in 'outputs': give at least 1")
        return self.match(tidy(line.text("pred")), references)


def get_ruler_task(name: str) -> RulerTask:
    """The task called `name`.

    Raises:
        LocretError: there is none; the message lists what there is.
    """
    if name not in _TASKS:
        raise LocretError(f"RULER has no task {name!r}: choose one of {', '.join(_TASKS)}")
    return _TASKS[name]


def list_ruler_tasks() -> list[str]:
    """Names of the 13 tasks, in RULER's order."""
    return list(_TASKS)


SQUAD = QuestionAnswering(
    "SQuAD v2's dev set", "https://rajpurkar.github.io/SQuAD-explorer/dataset/dev-v2.0.json", read_squad
)
HOTPOT = QuestionAnswering(
    "HotpotQA's dev set with distractors",
    "http://curtis.ml.cmu.edu/datasets/hotpot/hotpot_dev_distractor_v1.json",
    read_hotpot,
)
_TASKS = {
    task.name: register_benchmark_task(task)
    for task in (
        RulerTask("niah_single_1", 128, Niah("noise")),
        RulerTask("niah_single_2", 128, Niah("essay")),
        RulerTask("niah_single_3", 128, Niah("essay", value="uuid")),
        RulerTask("niah_multikey_1", 128, Niah("essay", keys=4)),
        RulerTask("niah_multikey_2", 128, Niah("needle")),
        RulerTask("niah_multikey_3", 128, Niah("needle", key="uuid", value="uuid")),
        RulerTask("niah_multivalue", 128, Niah("essay", values=4)),
        RulerTask("niah_multiquery", 128, Niah("essay", keys=4, queries=4)),
        RulerTask("vt", 30, VariableTracking()),
        RulerTask("cwe", 120, CommonWords()),
        RulerTask("fwe", 50, FrequentWords()),
        RulerTask("qa_1", 32, SQUAD, match_any),
        RulerTask("qa_2", 32, HOTPOT, match_any),
    )
}
