"""What cannot be done is refused in one line that names the value, the limit and what to do."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from locret.errors import LocretError
from locret.eval.ruler import Recipe, Sources, get_ruler_task, list_ruler_tasks, records, write_records
from locret.eval.ruler.niah import Niah
from locret.eval.ruler.sources import fetch


@pytest.mark.parametrize("task", list_ruler_tasks())
def test_no_room_for_the_fixed_parts(task: str, tokenizer: Any, sources_of: dict[str, Sources], tmp_path: Path) -> None:
    recipe = Recipe(task, 150, 2, sources=sources_of.get(task, Sources()))
    with pytest.raises(LocretError, match=rf"length 150 is too short for {task}: sample 0 .* has \d+ tokens: give"):
        write_records(tmp_path / "folder" / "a.jsonl", recipe, tokenizer)
    assert list(tmp_path.rglob("*.jsonl*")) == []


def test_the_length_named_is_the_one_that_is_missing(tokenizer: Any) -> None:
    with pytest.raises(LocretError) as refused:
        list(records(Recipe("niah_single_1", 100, 1), tokenizer))
    needed = int(str(refused.value).split(" tokens")[0].split()[-1])
    assert 200 < needed < 300


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "niah_single_4"}, "no task 'niah_single_4': choose one of niah_single_1, "),
        ({"task": "vt", "length": 0}, "length is 0: give at least 1"),
        ({"task": "vt", "samples": 0}, "samples is 0: give at least 1"),
    ],
)
def test_recipes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(LocretError, match=message):
        Recipe(**options)


def test_more_queries_than_keys() -> None:
    with pytest.raises(LocretError, match="2 queries need as many keys, not 1"):
        Niah("essay", queries=2)


@pytest.mark.parametrize("task", ["qa_1", "qa_2"])
def test_questions_that_are_not_there(task: str, tokenizer: Any, question_files: dict[str, Path]) -> None:
    def make(samples: int, questions: str | None) -> None:
        list(records(Recipe(task, 1024, samples, sources=Sources(questions=questions)), tokenizer))

    with pytest.raises(LocretError, match=f"{task} needs .* does not ship .* get http"):
        make(1, None)
    with pytest.raises(LocretError, match="no file /no/such/file"):
        make(1, "/no/such/file")
    with pytest.raises(LocretError, match=rf"500 samples of {task} are more than the \d+ questions"):
        make(500, str(question_files[task]))


@pytest.mark.parametrize("data", ["{}", "[1]", '{"data": [{"paragraphs": [{}]}]}', '"text"', '[{"context": [["a"]]}]'])
@pytest.mark.parametrize("task", ["qa_1", "qa_2"])
def test_questions_in_another_form(task: str, data: str, tokenizer: Any, tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(data)
    with pytest.raises(LocretError, match=r"is not .* in its own format|more than the 0 questions"):
        list(records(Recipe(task, 1024, 1, sources=Sources(questions=str(path))), tokenizer))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.json", b"{", "is not JSON"),
        ("a.json.gz", b"plain", "is not JSON"),
        ("a.json.gz", gzip.compress(b"[]", mtime=0)[:-9], "damaged .gz file"),
        ("a.json", b"\xff\xfe\x00", "is UTF-16"),
    ],
)
def test_files_that_are_no_json(name: str, data: bytes, message: str, tokenizer: Any, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    for sources, task in ((Sources(questions=str(path)), "qa_1"), (Sources(essay=str(path)), "niah_single_2")):
        with pytest.raises(LocretError, match=message):
            list(records(Recipe(task, 1024, 1, sources=sources), tokenizer))


@pytest.mark.parametrize(
    ("data", "message"), [([], "'text' field"), ({"body": ""}, "'text' field"), ({"text": " "}, "no text")]
)
def test_essays_without_text(data: Any, message: str, tokenizer: Any, tmp_path: Path) -> None:
    path = tmp_path / "essay.json"
    path.write_text(json.dumps(data))
    with pytest.raises(LocretError, match=message):
        list(records(Recipe("niah_single_2", 1024, 1, sources=Sources(essay=str(path))), tokenizer))


def test_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offline(repo: str, path: str, repo_type: str) -> str:
        if repo == "owner/none":
            raise ConnectionError
        return f"/cache/{repo_type}/{repo}/{path}"

    monkeypatch.setattr("locret.eval.ruler.sources.hf_hub_download", offline)
    assert fetch("hf://datasets/owner/squad/v2/dev.json") == Path("/cache/dataset/owner/squad/v2/dev.json")
    with pytest.raises(LocretError, match=r"could not be fetched from the hub \(ConnectionError\)"):
        fetch("hf://datasets/owner/none/dev.json")
    with pytest.raises(LocretError, match="names no file of a data set"):
        fetch("hf://datasets/owner/squad")


@pytest.mark.parametrize(
    "data",
    [
        {"data": [{"paragraphs": [{"context": 5, "qas": []}]}]},
        {"data": [{"paragraphs": [{"context": "a", "qas": [{"question": None, "answers": [{"text": "b"}]}]}]}]},
        {"data": [{"paragraphs": [{"context": "a", "qas": [{"question": "a", "answers": [{"text": 5}]}]}]}]},
        {"data": None},
        [],
    ],
)
def test_questions_whose_parts_are_no_texts_are_refused(data: object, tokenizer: Any, tmp_path: Path) -> None:
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(data))
    with pytest.raises(LocretError, match=r"squad\.json is not SQuAD v2's dev set in its own format"):
        list(records(Recipe("qa_1", 1024, 1, sources=Sources(questions=str(path))), tokenizer))


def test_the_beginning_of_an_answer_has_to_be_text(tmp_path: Path) -> None:
    path = tmp_path / "vt.jsonl"
    path.write_text(json.dumps({"input": "a", "outputs": ["b"], "answer_prefix": 5}))
    with pytest.raises(LocretError, match=r"vt\.jsonl, line 1 has 5 in 'answer_prefix': give text"):
        list(get_ruler_task("vt").load(path))
