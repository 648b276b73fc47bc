"""Questions with documents, out of the original files of SQuAD and HotpotQA."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from locret.typed import shown


@dataclass(frozen=True, slots=True)
class Question:
    """A question of a data set.

    Attributes:
        text: the question.
        answers: right answers.
        needed: numbers of the documents that always come with it.
        related: numbers of those that are the first to be added: the rest of the same article.
    """

    text: str
    answers: tuple[str, ...]
    needed: tuple[int, ...]
    related: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Library:
    """A data set: its documents, each once, and its questions in their order."""

    documents: tuple[str, ...]
    questions: tuple[Question, ...]


def read_squad(data: Any) -> Library:
    """SQuAD v2: questions that have an answer; a document is a paragraph."""
    numbers = _number(_text(paragraph["context"]) for article in data["data"] for paragraph in article["paragraphs"])
    questions = []
    for article in data["data"]:
        of_article = dict.fromkeys(numbers[paragraph["context"]] for paragraph in article["paragraphs"])
        for paragraph in article["paragraphs"]:
            own = numbers[paragraph["context"]]
            related = tuple(number for number in of_article if number != own)
            questions += [
                Question(
                    _text(entry["question"]), _texts(answer["text"] for answer in entry["answers"]), (own,), related
                )
                for entry in paragraph["qas"]
                if not entry.get("is_impossible", False) and entry["answers"]
            ]
    return Library(tuple(numbers), tuple(questions))


def read_hotpot(data: Any) -> Library:
    """HotpotQA with distractors: the ten paragraphs of a question come with it."""
    paragraphs = [[f"{title}\n{''.join(sentences)}" for title, sentences in entry["context"]] for entry in data]
    numbers = _number(text for texts in paragraphs for text in texts)
    questions = [
        Question(
            _text(entry["question"]), (_text(entry["answer"]),), tuple(dict.fromkeys(numbers[text] for text in texts))
        )
        for entry, texts in zip(data, paragraphs, strict=True)
    ]
    return Library(tuple(numbers), tuple(questions))


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(map(_text, values))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{shown(value)} is no text")
    return value


def _number(texts: Iterable[str]) -> dict[str, int]:
    """Each text once, sorted, with its number."""
    return {text: number for number, text in enumerate(sorted(set(texts)))}
