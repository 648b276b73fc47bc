"""A method that reads nothing and knows some answers: what the evaluation does with them needs no model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from locret.eval.benchmarks.truncation import PromptIds
from locret.eval.grid import Cell, Grid
from locret.eval.haystack import Filler
from locret.eval.quizzes.data import parse_data
from locret.eval.quizzes.files import Files
from locret.eval.quizzes.maker import QuizMaker
from locret.eval.results import Subject
from locret.eval.runner import Reader
from locret.eval.workers import Silent
from tests.conftest import tiny_llama
from tests.eval.models import TEXT, byte_tokenizer

SUBJECT = Subject("tiny", "", "0", "float32", "test")
TOKENIZER = byte_tokenizer(begins=True)
CONFIG = tiny_llama(vocab_size=258, max_position_embeddings=4096).config


@dataclass
class Oracle:
    """Answers by the first part of the question that it knows, else with nothing.

    Attributes:
        answers: part of a question -> answer.
        read_texts: everything that was read.
        asked: (document, question) of everything that was asked.
        dies_after: questions after which it is interrupted.
    """

    answers: Mapping[str, str] = field(default_factory=dict)
    budgeted: bool = True
    prefill: str = "chunked"
    read_texts: list[str] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)
    dies_after: int | None = None

    def open_reading(self, model: Any, tokenizer: Any, budget: Any) -> Oracle:
        return self

    def read(self, document: Sequence[int], progress: Any, asked: int = 0) -> Any:
        progress(len(document), len(document))
        self.read_texts.append(TOKENIZER.decode(document))
        return SimpleNamespace(
            tokens_seen=len(document),
            kv_bytes=10 * len(document),
            offloaded_bytes=0,
            prefill_seconds=1.0,
            text=self.read_texts[-1],
        )

    def ask(self, session: Any, question: Sequence[int], max_new_tokens: int, stop: Sequence[str]) -> str:
        if self.dies_after == len(self.asked):
            raise KeyboardInterrupt
        text = TOKENIZER.decode(question)
        self.asked.append((session.text, text))
        self.limits.append(max_new_tokens)
        return next((answer for part, answer in self.answers.items() if part in text), "")


@dataclass(frozen=True)
class Told:
    """A passage whose questions are answered by a function of the prompt: see `quizzes.contract.Asked`."""

    answer: Callable[[PromptIds], str]

    def distances(self, continuation: Any) -> Any:
        raise AssertionError("this passage is asked in words")


def oracle_reader(oracles: Mapping[str, Any], *data: object, watch: Any = None) -> Reader:
    """A reader without a model; `data` as `--data` takes it."""
    files = Files(parse_data([str(one) for one in data]))
    return Reader(SimpleNamespace(config=CONFIG), TOKENIZER, oracles, Filler(TEXT), watch or Silent(), files)


def quizzes(*data: object) -> QuizMaker:
    return oracle_reader({}, *data).quizzes


def grid(*tasks: str, **settings: Any) -> Grid:
    return Grid(**{"tasks": tasks, "lengths": (1000,), "budgets": (64,), "samples": 4, **settings})


def texts(prompt: PromptIds) -> tuple[str, str]:
    return TOKENIZER.decode(prompt.context), TOKENIZER.decode(prompt.question)


def one_cell(cells: Sequence[Cell]) -> Cell:
    [cell] = cells
    return cell
