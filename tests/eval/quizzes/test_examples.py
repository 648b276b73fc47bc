from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from locret.errors import LocretError
from locret.eval.benchmarks.base import Example
from locret.eval.benchmarks.jsonl import write_jsonl
from locret.eval.frame import frame_of
from locret.eval.haystack import plain_ids
from locret.eval.planning import plan
from locret.eval.quizzes.contract import Passage, Quiz
from locret.eval.quizzes.examples import ExampleQuiz, depth_of
from locret.eval.quizzes.names import benchmark_task
from tests.eval.models import byte_tokenizer
from tests.eval.oracle import CONFIG, TOKENIZER, Oracle, Told, grid, one_cell, quizzes, texts

CHAT = "{{ '<s>' }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] | trim }} [end]{% endfor %}[model]"


def quiz_of(path: Path, task: str = "leval/coursera", **settings: Any) -> Quiz:
    shelf = quizzes(path)
    cell = one_cell(plan(CONFIG, grid(task, **{"samples": 100, **settings}), {"x": Oracle()}, shelf.files))
    return shelf.quiz(cell)


def decoded(passage: Passage) -> list[str]:
    return [TOKENIZER.decode([*passage.ids[1:], *question.ids]) for question in passage.questions]


def test_a_document_is_read_once_for_all_its_questions(coursera: Path) -> None:
    made = quiz_of(coursera, lengths=(3000,))
    passages = list(made.passages())
    assert [len(passage.questions) for passage in passages] == [3, 2, 1]
    assert made.readings == 3
    examples = list(benchmark_task("leval/coursera").load(coursera))
    assert [text for passage in passages for text in decoded(passage)] == [example.prompt for example in examples]
    assert [q.uid for p in passages for q in p.questions] == [example.uid for example in examples]
    assert not any(passage.asked for passage in passages)


def test_with_the_question_first_it_is_read_for_each(coursera: Path) -> None:
    made = quiz_of(coursera, lengths=(3000,), query_first=True)
    passages = list(made.passages())
    assert [passage.document for passage in passages] == [0, 0, 0, 1, 1, 2]
    assert made.readings == 6
    for passage in passages:
        [text] = decoded(passage)
        assert text.startswith("Question: Question")
        assert text.count(f"Question {passage.questions[0].uid.replace('-', '.')}?") == 2
        asked = passage.questions[0].item.question.strip()
        assert TOKENIZER.decode(passage.ids[: passage.asked]) == f"<s>{asked}\n\n"


def test_a_token_across_the_end_of_the_question_is_not_counted(coursera: Path) -> None:
    made = quiz_of(coursera, lengths=(3000,), query_first=True)
    assert isinstance(made, ExampleQuiz)
    joined = (TOKENIZER.bos_token_id, *plain_ids(TOKENIZER, "Why?"), 257)  # one token for both line breaks
    assert made._tokens_of("Why?\n\n", joined) == 1 + len("Why?")


@pytest.mark.parametrize("query_first", [False, True])
def test_the_middle_of_a_long_document_is_cut_out(coursera: Path, query_first: bool) -> None:
    for passage in quiz_of(coursera, lengths=(900,), query_first=query_first).passages():
        for text in decoded(passage):
            assert len(text.encode()) + 1 in (899, 900)
            assert f"Document {passage.document}." in text
            assert text.count("Word after word.") < 40


def test_a_length_without_room_for_the_question_is_refused(coursera: Path) -> None:
    with pytest.raises(LocretError, match=r"example 0-0 does not fit 100 tokens: .* give a higher limit"):
        list(quiz_of(coursera, lengths=(100,)).passages())


def test_lines_are_the_benchmarks_own_and_a_score(coursera: Path) -> None:
    made = quiz_of(coursera)
    question = next(made.passages()).questions[1]
    line = made.line(question, Told(lambda prompt: "A"))
    assert line.keys() == {"query", "gt", "prompt", "locret_pred", "evaluation", "uid", "score"}
    assert (line["uid"], line["locret_pred"], line["score"]) == ("0-1", "A", 1.0)
    assert made.line(question, Told(lambda prompt: "B"))["score"] == 0.0


def test_a_second_question_is_asked_without_the_document(tmp_path: Path) -> None:
    record = {
        "instructions": ["Men fly, True or False? Answer this question based on the world described in the document."],
        "outputs": ["True [fact: False]"], "input": "Men flew. " * 50, "evaluation": "exam",
    }  # fmt: skip
    write_jsonl(tmp_path / "sci_fi.jsonl", [record])
    made = quiz_of(tmp_path / "sci_fi.jsonl", "leval/sci_fi")
    [passage] = made.passages()
    asked: list[tuple[str, str]] = []

    def ask(prompt: Any) -> str:
        asked.append(texts(prompt))
        return "True" if not prompt.context else "False"

    line = made.line(passage.questions[0], Told(ask))
    assert (line["locret_pred"], line["score"]) == ("True [fact: False]", 1.0)
    (nothing, first), (begin, second) = asked
    assert (nothing, begin) == ("", "<s>")
    assert "described in the document" in first
    assert second.startswith("Men fly, True or False?")


def test_texts_keep_the_whole_document(coursera: Path) -> None:
    made = quiz_of(coursera, lengths=(900,))
    question = next(made.passages()).questions[0]
    said = made.texts(question)
    assert said.context.count("Word after word.") == 40
    assert (said.answer_prefix, said.answer) == ("\nAnswer:", "A")


def test_prompts_in_a_chat(coursera: Path) -> None:
    shelf = quizzes(coursera)
    shelf.tokenizer = byte_tokenizer(begins=True)
    shelf.tokenizer.chat_template = CHAT
    cells = plan(CONFIG, grid("leval/coursera", "magic", chat=True, samples=2), {"x": Oracle()}, shelf.files)
    for cell, answer in zip(cells, ("[end][model]\nAnswer:", "[end][model] Answer: The magic number"), strict=True):
        passage = next(shelf.quiz(cell).passages())
        text = TOKENIZER.decode([*passage.ids, *passage.questions[0].ids])
        assert text.startswith("<s>[user] ")
        assert text.count("<s>") == 1
        assert answer in text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "--chat needs a tokenizer with a chat template"),
        ("Hello.", "does not repeat a message as it is"),
        ("{{ raise_exception('no users') }}", r"the chat template refuses the message \(no users\)"),
    ],
)
def test_tokenizers_that_cannot_chat(template: str | None, message: str) -> None:
    tokenizer = byte_tokenizer(begins=True)
    tokenizer.chat_template = template
    assert frame_of(tokenizer, chat=False).tail == ""
    with pytest.raises(LocretError, match=message):
        frame_of(tokenizer, chat=True)


@pytest.mark.parametrize(
    ("task", "label", "depth"),
    [
        ("kv_retrieval", "71", 0.5),
        ("niah_single_1", ["71"], 0.5),
        ("niah_single_1", ["99"], None),
        ("niah_multivalue", ["71", "83"], None),  # several places
        ("infinitebench/longbook_qa_eng", ["71"], None),  # may stand there by chance
        ("math_find", 71, None),
    ],
)
def test_depths(task: str, label: Any, depth: float | None) -> None:
    assert depth_of(benchmark_task(task), Example("0", "", "aaaa71bb", "", label)) == depth
