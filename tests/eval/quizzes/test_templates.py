"""The passages of templates are the documents and prompts that `haystack` makes."""

from __future__ import annotations

from dataclasses import replace

import pytest

import locret
from locret.eval.contexts import contexts
from locret.eval.grid import Cell
from locret.eval.haystack import Filler, plain_ids, prompt_ids, question_ids
from locret.eval.quizzes.maker import QuizMaker
from locret.eval.quizzes.templates import TemplateQuiz
from tests.eval.models import TEXT, byte_tokenizer
from tests.eval.oracle import TOKENIZER, Told

CELL = Cell("x", "mix", 900, locret.Budget(64), 6, 0, 4, "heldout", query_first=False)
FILLER = Filler(TEXT)


def quiz(cell: Cell) -> TemplateQuiz:
    made = QuizMaker(TOKENIZER, FILLER).quiz(cell)
    assert isinstance(made, TemplateQuiz)
    return made


@pytest.mark.parametrize("query_first", [False, True])
def test_prompts(query_first: bool) -> None:
    cell = replace(CELL, query_first=query_first)
    passages = list(quiz(cell).passages())
    wanted = [
        prompt_ids(TOKENIZER, context, needle, question_first=query_first)
        for context in contexts(cell, TOKENIZER, FILLER)
        for needle in context.needles
    ]
    got = [[*passage.ids, *question.ids] for passage in passages for question in passage.questions]
    assert got == wanted
    for passage in passages:
        asked = passage.questions[0].item.needle.asked
        assert TOKENIZER.decode(passage.ids[: passage.asked]) == (f"<s>{asked}\n" if query_first else "")
    assert len(passages) == quiz(cell).readings == (6 if query_first else 2)
    assert [q.uid for p in passages for q in p.questions] == ["0-0", "0-1", "0-2", "0-3", "1-0", "1-1"]
    assert [p.document for p in passages] == ([0] * 4 + [1] * 2 if query_first else [0, 1])


@pytest.mark.parametrize("query_first", [False, True])
def test_no_bos_token_where_the_tokenizer_puts_none_before_texts(query_first: bool) -> None:
    tokenizer, cell = byte_tokenizer(), replace(CELL, query_first=query_first)
    passage = next(QuizMaker(tokenizer, FILLER).quiz(cell).passages())
    question = passage.questions[0]
    context = question.item.context
    assert tokenizer.bos_token_id not in passage.ids
    assert len(context.document_ids) == 900
    assert [*passage.ids, *question.ids] == prompt_ids(tokenizer, context, question.item.needle, query_first)


@pytest.mark.parametrize("query_first", [False, True])
def test_places_and_depths(query_first: bool) -> None:
    for passage in quiz(replace(CELL, query_first=query_first)).passages():
        for question in passage.questions:
            assert question.position is not None
            sentence = plain_ids(TOKENIZER, " " + question.item.needle.sentence)
            assert list(passage.ids[question.position :][: len(sentence)]) == sentence
            document = question.item.context.document_ids
            first = len(passage.ids) - len(document)  # tokens in front of the document
            assert question.depth == (question.position - first) / len(document)


def test_lines_say_what_was_asked_and_answered() -> None:
    made = quiz(CELL)
    question = next(iter(made.passages())).questions[2]
    needle = question.item.needle
    for text, score in ((f" {needle.value}.", 1.0), (" something else", 0.0)):
        line = made.line(question, Told(lambda prompt, text=text: text))  # type: ignore[misc]
        assert line == {
            "uid": "0-2", "kind": needle.kind, "question": needle.asked, "answer": needle.value,
            "prediction": text, "score": score,
        }  # fmt: skip


def test_texts_are_the_prompt_in_words() -> None:
    made = quiz(CELL)
    passage = next(iter(made.passages()))
    texts = made.texts(passage.questions[0])
    assert TOKENIZER.decode(passage.ids[1:]) == texts.context
    asked = texts.question + texts.answer_prefix
    assert list(passage.questions[0].ids) == question_ids(TOKENIZER, passage.questions[0].item.needle)
    assert TOKENIZER.decode(passage.questions[0].ids) == asked
