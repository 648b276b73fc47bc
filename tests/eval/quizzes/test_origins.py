from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from locret.errors import LocretError
from locret.eval.benchmarks.jsonl import write_jsonl
from locret.eval.haystack import plain_ids
from locret.eval.quizzes import origins
from locret.eval.quizzes.data import parse_data
from locret.eval.quizzes.files import Files
from locret.eval.quizzes.names import benchmark_task, list_generated
from locret.eval.ruler import Recipe, Sources, write_records
from tests.eval.oracle import TOKENIZER

COURSERA = benchmark_task("leval/coursera")


def uids(documents: origins.Documents) -> list[list[str]]:
    return [[example.uid for example in examples] for examples in documents]


def test_examples_of_one_document_come_together(coursera: Path) -> None:
    assert uids(origins.from_file(COURSERA, coursera)) == [["0-0", "0-1", "0-2"], ["1-0", "1-1"], ["2-0"]]


@pytest.mark.parametrize("samples", range(1, 8))
def test_documents_are_drawn_whole_but_for_the_last(coursera: Path, samples: int) -> None:
    documents = origins.from_file(COURSERA, coursera)
    for seed in range(5):
        drawn = origins.drawn(documents, samples, seed)
        assert sum(map(len, drawn)) == min(samples, 6)
        assert drawn == origins.drawn(documents, samples, seed)
        *whole, last = drawn
        assert all(examples in documents for examples in whole)
        assert uids(tuple(whole)) == sorted(uids(tuple(whole)))
        assert any(examples[: len(last)] == last for examples in documents)


def test_another_seed_draws_others(coursera: Path) -> None:
    documents = origins.from_file(COURSERA, coursera)
    assert len({str(uids(origins.drawn(documents, 2, seed))) for seed in range(20)}) > 1


def test_names_that_a_file_gives_twice_are_told_apart(tmp_path: Path) -> None:
    record = {"id": 7, "context": "x", "input": "Who?", "answer": ["Ann"], "options": []}
    write_jsonl(tmp_path / "a.jsonl", [record, record])
    assert uids(origins.from_file(benchmark_task("infinitebench/longbook_qa_eng"), tmp_path / "a.jsonl")) == [
        ["7", "7#2"]
    ]


def test_a_file_without_examples(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    with pytest.raises(LocretError, match="holds no example of leval/coursera"):
        origins.from_file(COURSERA, tmp_path / "a.jsonl")


def test_ruler_makes_what_its_files_hold(tmp_path: Path) -> None:
    write_records(tmp_path / "vt.jsonl", Recipe("vt", 1400, 2, 3), TOKENIZER)
    made = origins.from_ruler("vt", TOKENIZER, 1400, 2, 3, Sources())
    assert made == origins.from_file(benchmark_task("ruler/vt"), tmp_path / "vt.jsonl")


@pytest.mark.parametrize("name", list_generated())
def test_generated_prompts_have_the_wanted_length(name: str) -> None:
    made = origins.from_generator(name, TOKENIZER, 2500, 6, 0)
    lengths = [len(plain_ids(TOKENIZER, example.prompt)) for (example,) in made]
    assert len(lengths) == 6
    assert 2250 < max(lengths) <= 2500


def test_files_of_users(coursera: Path) -> None:
    files = Files(parse_data([str(coursera.parent)]))
    extent = files.extent("leval/coursera", 500, 4)
    assert (extent.length, extent.samples) == (500, 4)
    assert files.extent("leval/coursera", 500, 40).samples == 6
    assert extent.data.startswith("coursera.jsonl ")
    coursera.write_text(coursera.read_text() + "\n")
    assert Files(parse_data([f"leval/coursera={coursera}"])).extent("leval/coursera", 1, 1).data != extent.data
    assert files.extent("mix", 500, 40).data == files.extent("vt", 500, 40).data == ""


def test_questions_of_ruler(tmp_path: Path) -> None:
    with pytest.raises(LocretError, match=r"qa_1 needs the file of SQuAD .* give it as --data qa_1=FILE"):
        Files(parse_data([])).extent("qa_1", 1, 1)
    with pytest.raises(LocretError, match=r"no file .*dev-v2\.0\.json"):
        Files(parse_data([str(tmp_path)])).extent("qa_1", 1, 1)
    (tmp_path / "dev-v2.0.json").write_text(json.dumps({"data": []}))
    assert Files(parse_data([str(tmp_path)])).extent("qa_1", 1, 1).data.startswith("dev-v2.0.json ")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["a", "b"], "--data names a and b for all tasks: give one, others as TASK=PATH"),
        (["leval/tpo=a", "leval/tpo=b"], "--data names two files for leval/tpo: a and b: give one"),
        (["leval/nothing=a"], "leval has no task 'nothing'"),
    ],
)
def test_data_that_is_not_clear(given: list[str], message: str) -> None:
    with pytest.raises(LocretError, match=message):
        parse_data(given)


def test_data_by_task(tmp_path: Path) -> None:
    odd: Any = tmp_path / "a=b"
    odd.mkdir()
    data = parse_data(["qa_1=x.json", str(odd)])
    assert (data.path("qa_1"), data.path("leval/tpo")) == ("x.json", str(odd))
