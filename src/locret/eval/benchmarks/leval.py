"""L-Eval (arXiv 2307.11088): 20 tasks of one document and many questions; files, prompts and scorers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locret.errors import LocretError
from locret.eval.benchmarks import leval_answers as answers
from locret.eval.benchmarks import leval_scores as scores
from locret.eval.benchmarks.base import Example, register_benchmark_task
from locret.eval.benchmarks.damaged import examples
from locret.eval.benchmarks.jsonl import Damaged, Record, read_jsonl, stop
from locret.eval.benchmarks.leval_answers import Pair
from locret.eval.benchmarks.leval_prompts import Layout, asked_of_the_world, closed, continued, open_ended

Scorer = Callable[[Sequence[Pair]], scores.Scored]

AUTOMATIC = ("exam", "f1", "rouge")  # the other records are judged by people or language models
PREDICTION = "locret_pred"
ANY_PREDICTION = "_pred"


@dataclass(frozen=True, slots=True)
class LEvalTask:
    """One task.

    Attributes:
        name: stem of its files.
        layout: the prompt around document and instruction.
        scorer: answers with right answers in, per cent out.
        of_the_world: whether each question is also asked of the real world, without the document.
        of_a_line: scores one line, where `scorer` cannot; `turns` parts of the score take turns with the lines.
        together: the score out of the means of its parts.
    """

    name: str
    layout: Layout
    scorer: Scorer
    of_the_world: bool = False
    of_a_line: Scorer | None = None
    turns: int = 1
    together: Callable[[NDArray[np.float64]], NDArray[np.float64]] = scores.mean
    benchmark: str = "leval"
    max_new_tokens: int = 512

    def load(self, path: Path, damaged: Damaged = stop) -> Iterator[Example]:
        """The examples of an original file (`instructions, outputs, input, evaluation`), scored automatically."""
        return examples(read_jsonl(path, damaged), self._questions, damaged)

    def prediction(self, example: Example, text: str) -> dict[str, Any]:
        """The line of a prediction file: `query, gt, prompt, locret_pred, evaluation`."""
        prompt = example.before + "<long document>" + example.question + example.answer_prefix
        return {
            "query": example.extra["query"],
            "gt": example.label,
            "prompt": prompt,
            PREDICTION: text,
            "evaluation": example.extra["evaluation"],
        }

    def check(self, record: Record) -> None:
        """It has an answer and a right answer, if it is scored at all."""
        if _scored(record):
            self._pair(record, _answer_field(record))

    def score(self, predictions: Sequence[Mapping[str, Any]]) -> float | list[float]:
        """The authors' figure for the file: exact match, F1, or the mean of three ROUGEs; three for the topics."""
        return self.scorer(self._pairs(predictions)).score

    def details(self, predictions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """How many lines are scored, and the parts of the score."""
        pairs = self._pairs(predictions)
        return {"samples": len(pairs), **self.scorer(pairs).parts}

    def columns(self, predictions: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """[lines, parts]: the parts of each line's score, per cent."""
        each = [(self.of_a_line or self.scorer)([pair]) for pair in self._pairs(predictions)]
        columns = np.array([[*scored.parts.values()] or np.atleast_1d(scored.score) for scored in each], dtype=float)
        if self.turns == 1:
            return columns
        own = np.arange(len(columns))[:, None] % self.turns == np.arange(self.turns)  # [lines, parts]
        return np.where(own, columns, np.nan)

    def _questions(self, index: int, record: Record) -> Iterator[Example]:
        if record.text("evaluation") not in AUTOMATIC:
            return
        instructions, golds = record.texts("instructions"), record.texts("outputs")
        if len(instructions) != len(golds):
            raise LocretError(f"{record.place} has {len(instructions)} instructions and {len(golds)} outputs")
        for number, (instruction, gold) in enumerate(zip(instructions, golds, strict=True)):
            yield Example(
                uid=f"{index}-{number}",
                before=self.layout.before,
                document=record.text("input"),
                question=self.layout.ask(instruction, gold),
                label=gold,
                answer_prefix=self.layout.answer_prefix,
                extra={"query": instruction, "evaluation": record.text("evaluation")},
                second=self._of_the_world(f"{index}-{number}-fact", instruction) if self.of_the_world else None,
                joint="{first} [fact: {second}]",
            )

    def _of_the_world(self, uid: str, instruction: str) -> Example:
        question = asked_of_the_world(instruction)
        return Example(uid, before="", document="", question=question, label=None, answer_prefix="\nAnswer:")

    def _pairs(self, predictions: Sequence[Mapping[str, Any]]) -> list[Pair]:
        """Answers with right answers; the field of the answers is the first that is named after a model."""
        records = [Record(f"prediction {number}", fields) for number, fields in enumerate(predictions, start=1)]
        scored = list(filter(_scored, records))
        if not scored:
            raise LocretError(f"there is no prediction to score for leval {self.name}: give one at least")
        field = _answer_field(records[0])
        return [self._pair(record, field) for record in scored]

    def _pair(self, record: Record, field: str) -> Pair:
        if self.of_the_world:
            answers.check_judgements(record)
        return record.text(field), record.text("gt")


def _scored(record: Record) -> bool:
    return record.fields.get("evaluation", AUTOMATIC[0]) in AUTOMATIC


def _answer_field(record: Record) -> str:
    return next((name for name in record.fields if ANY_PREDICTION in name), f"<model>{ANY_PREDICTION}")


def _exam(name: str, layout: Layout, prepare: scores.Prepare) -> LEvalTask:
    return LEvalTask(name, layout, scores.exam(prepare))


for _task in (
    _exam("coursera", closed("coursera"), answers.all_letters),
    _exam("quality", closed("quality"), answers.one_letter),
    _exam("tpo", closed("quality"), answers.one_letter),
    _exam("gsm100", continued("gsm100"), answers.number),
    _exam("codeU", continued("codeU"), answers.code_output),
    LEvalTask("sci_fi", closed("sci_fi"), scores.story_and_fact, of_the_world=True),
    LEvalTask(
        "topic_retrieval_longchat",
        continued("topic_retrieval_longchat"),
        scores.by_topic(answers.as_they_are),
        of_a_line=scores.exam(answers.as_they_are),
        turns=scores.TOPICS,
    ),
    *(
        LEvalTask(name, open_ended(), scores.f1)
        for name in (
            "financial_qa",
            "legal_contract_qa",
            "multidoc_qa",
            "narrative_qa",
            "natural_question",
            "scientific_qa",
        )
    ),
    *(
        LEvalTask(name, open_ended(), scores.rouge_mean, together=scores.geometric_mean)
        for name in (
            "gov_report_summ",
            "meeting_summ",
            "news_summ",
            "paper_assistant",
            "patent_summ",
            "review_summ",
            "tv_show_summ",
        )
    ),
):
    register_benchmark_task(_task)
