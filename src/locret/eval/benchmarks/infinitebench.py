"""InfiniteBench (arXiv 2402.13718): 12 tasks of 100K tokens and more; files, prompts and scorers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locret.errors import LocretError
from locret.eval.benchmarks import infinitebench_labels as labels
from locret.eval.benchmarks import infinitebench_scores as scores
from locret.eval.benchmarks.base import Example, register_benchmark_task
from locret.eval.benchmarks.damaged import examples
from locret.eval.benchmarks.infinitebench_prompts import (
    PROMPTS,
    call_fields,
    option_fields,
    plain_fields,
    sought_fields,
)
from locret.eval.benchmarks.jsonl import Damaged, Record, read_jsonl, stop

Labels = Callable[[Any, Sequence[str]], Any]
Scorer = Callable[[str, Any], float]


@dataclass(frozen=True, slots=True)
class InfiniteBenchTask:
    """One task.

    Attributes:
        name: stem of its files.
        max_new_tokens: tokens of an answer at most.
        label: the right answer in the form that scorers take, see `infinitebench_labels`.
        judge: how right a prediction is, 0 to 1, see `infinitebench_scores`.
        fields: what the prompt is filled with.
    """

    name: str
    max_new_tokens: int
    label: Labels
    judge: Scorer
    fields: Callable[[Record], dict[str, str]] = plain_fields
    benchmark: str = "infinitebench"

    def load(self, path: Path, damaged: Damaged = stop) -> Iterator[Example]:
        """The examples of an original file (`id, context, input, answer, options`).

        Where a file holds several tasks, with their names as `task`, those of the others are passed over.
        """
        records = read_jsonl(path, damaged)
        own = (record for record in records if record.fields.get("task", self.name) == self.name)
        return examples(own, lambda index, record: [self.example(index, record)], damaged)

    def example(self, index: int, record: Record) -> Example:
        """The example of one record; `index` is its name if it has no `id`."""
        prompt = PROMPTS[self.name].fill(self.fields(record))
        uid = record.fields.get("id", index)
        return Example(
            uid=str(uid),
            before=prompt.before,
            document=record.text("context"),
            question=prompt.question,
            label=self._label(record, "answer", options=record.fields.get("options") or ()),
            answer_prefix=prompt.answer_prefix,
            extra={"id": uid},
        )

    def prediction(self, example: Example, text: str) -> dict[str, Any]:
        """The line of a prediction file: `id, prediction, ground_truth`."""
        return {**example.extra, "prediction": text, "ground_truth": example.label}

    def check(self, record: Record) -> None:
        """It has a prediction and a right answer of this task's kind."""
        self._pair(record)

    def score(self, predictions: Sequence[Mapping[str, Any]]) -> float:
        """Mean over all predictions, per cent."""
        if not predictions:
            raise LocretError(f"there is no prediction to score for infinitebench {self.name}: give one at least")
        records = (Record(f"prediction {number}", fields) for number, fields in enumerate(predictions, start=1))
        return 100 * sum(map(self._judge, records)) / len(predictions)

    def _judge(self, record: Record) -> float:
        return self.judge(*self._pair(record))

    def _pair(self, record: Record) -> tuple[str, Any]:
        """A prediction with its right answer."""
        return record.text("prediction", "pred"), self._label(record, "ground_truth", "label")

    def _label(self, record: Record, *names: str, options: Sequence[str] = ()) -> Any:
        value = record.value(*names)
        try:
            return self.label(value, options)
        except (TypeError, ValueError) as error:
            raise LocretError(
                f"{record.place} has {str(value)[:80]!r} for the right answer of {self.name}: {error}"
            ) from error


TASKS = (
    InfiniteBenchTask("passkey", 6, labels.text, scores.first_digits),
    InfiniteBenchTask("number_string", 12, labels.text, scores.first_digits),
    InfiniteBenchTask("kv_retrieval", 50, labels.text, scores.among_words),
    InfiniteBenchTask("longbook_sum_eng", 1200, labels.texts, scores.summary_rouge),
    InfiniteBenchTask("longbook_choice_eng", 40, labels.choice, scores.book_choice, option_fields),
    InfiniteBenchTask("longbook_qa_eng", 40, labels.texts, scores.best_word_f1),
    InfiniteBenchTask("longbook_qa_chn", 40, labels.texts, scores.best_character_f1),
    InfiniteBenchTask("longdialogue_qa_eng", 40, labels.texts, scores.character_name),
    InfiniteBenchTask("math_find", 3, labels.number, scores.first_number, sought_fields),
    InfiniteBenchTask("math_calc", 30000, labels.numbers, scores.value_prefix),
    InfiniteBenchTask("code_run", 5, labels.number, scores.last_integer, call_fields),
    InfiniteBenchTask("code_debug", 5, labels.choice, scores.buggy_function, option_fields),
)
for _task in TASKS:
    register_benchmark_task(_task)
