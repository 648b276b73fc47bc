from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from locret.errors import LocretError
from locret.eval.benchmarks.base import answer, details, get_benchmark_task, list_benchmark_tasks
from locret.eval.benchmarks.jsonl import read_jsonl, write_jsonl
from locret.eval.benchmarks.source import find_file

QUESTIONS = {
    "coursera": 172, "gsm100": 100, "legal_contract_qa": 130, "meeting_summ": 156, "natural_question": 104,
    "quality": 202, "sci_fi": 64, "scientific_qa": 160,
}  # fmt: skip


def write(path: Path, **fields: Any) -> Path:
    record = {"instructions": ["Who?"], "outputs": ["Ann"], "input": "TEXT", "source": "s", "evaluation": "exam"}
    write_jsonl(path, [{**record, **fields}])
    return path


def test_all_tasks_are_registered() -> None:
    assert len(list_benchmark_tasks("leval")) == 20
    assert get_benchmark_task("leval", "codeU").max_new_tokens == 512


@pytest.mark.parametrize("name", QUESTIONS)
def test_original_files(shared_data: Path, name: str) -> None:
    task = get_benchmark_task("leval", name)
    examples = list(task.load(find_file(task, shared_data / "qa" / "leval")))
    assert len(examples) == QUESTIONS[name]
    assert len({example.uid for example in examples}) == len(examples)
    first = next(iter(read_jsonl(shared_data / "qa" / "leval" / f"{name}.jsonl.gz"))).fields
    assert examples[0].document == first["input"]
    assert first["instructions"][0] in examples[0].question
    assert "{" not in examples[0].before


@pytest.mark.parametrize("name", [name for name in QUESTIONS if not name.endswith("summ")])
def test_right_answers_get_the_full_score(shared_data: Path, name: str) -> None:
    task = get_benchmark_task("leval", name)
    examples = task.load(shared_data / "qa" / "leval" / f"{name}.jsonl.gz")
    lines = [task.prediction(example, example.label) for example in examples]
    assert lines[0].keys() == {"query", "gt", "prompt", "locret_pred", "evaluation"}
    assert task.score(lines) == 100


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("tpo", " Document is as follows. TEXT \nQuestion: Who?.  Please directly give the answer without any "
         "additional output or explanation \nAnswer:"),
        ("gsm100", "The answer is _ . \n\nTEXT\n\nWho?"),
        ("codeU", "answer the question.\n\nTEXT\n\nWho?"),
        ("topic_retrieval_longchat", "Now the record start. \n\nTEXT\n\nWho?"),
        ("news_summ", " Document is as follows. TEXT Instruction: Who? \nAnswer this question with 1 words."),
    ],
)  # fmt: skip
def test_prompts(tmp_path: Path, name: str, prompt: str) -> None:
    [example] = get_benchmark_task("leval", name).load(write(tmp_path / "task.jsonl"))
    assert example.prompt.endswith(prompt)
    assert example.second is None


def test_stories_are_also_asked_of_the_world(tmp_path: Path) -> None:
    instruction = "Men fly, True or False? Answer this question based on the world described in the document."
    path = write(tmp_path / "sci_fi.jsonl", instructions=[instruction], outputs=["True [fact: False]"])
    task = get_benchmark_task("leval", "sci_fi")
    [example] = task.load(path)
    assert example.second is not None
    assert example.second.document == ""
    assert "based on the real-world knowledge" in example.second.prompt
    text = answer(example, lambda asked: "It is True." if asked.document else "No, False.")
    assert text == "It is True. [fact: No, False.]"
    assert task.score([task.prediction(example, text)]) == 100
    lines = [task.prediction(example, "True"), task.prediction(example, "true [fact: false]")]
    assert details(task, lines) == {"samples": 2, "loyalty": 100, "fact": 50}
    assert task.score(lines) == 75


def test_answer_of_one_question(tmp_path: Path) -> None:
    [example] = get_benchmark_task("leval", "tpo").load(write(tmp_path / "tpo.jsonl"))
    assert answer(example, lambda asked: asked.uid) == "0-0"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"outputs": []}, "has 1 instructions and 0 outputs"),
        ({"instructions": "Who?"}, "'instructions': give a list of texts"),
        ({"input": 3}, "has 3 in 'input': give text"),
    ],
)
def test_bad_records(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(LocretError, match=message):
        list(get_benchmark_task("leval", "tpo").load(write(tmp_path / "tpo.jsonl", **fields)))


def test_records_that_people_judge_are_passed_over(tmp_path: Path) -> None:
    task = get_benchmark_task("leval", "news_summ")
    assert list(task.load(write(tmp_path / "news_summ.jsonl", evaluation="human"))) == []
    lines = [
        {"gt": "a b", "x_pred": "a b c", "evaluation": "LLM"},
        {"gt": "a b", "x_pred": "a b", "evaluation": "rouge"},
    ]
    assert details(task, lines)["samples"] == 1
    assert task.score(lines) == pytest.approx(100)


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("tpo", [], "there is no prediction to score for leval tpo"),
        ("tpo", [{"gt": "A"}], "prediction 1 has no field '<model>_pred': its fields are gt"),
        ("tpo", [{"x_pred": "A"}], "prediction 1 has no field 'gt'"),
        ("sci_fi", [{"gt": "true", "x_pred": "A"}], r"prediction 1 has no '\[fact: ...\]' in 'gt'"),
        ("topic_retrieval_longchat", [{"gt": "A", "x_pred": "A"}], "1 predictions of 3 kinds"),
    ],
)
def test_bad_predictions(name: str, lines: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(LocretError, match=message):
        get_benchmark_task("leval", name).score(lines)
