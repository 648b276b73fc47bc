from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from locret.errors import LocretError
from locret.eval.benchmarks.base import get_benchmark_task, list_benchmark_tasks
from locret.eval.benchmarks.infinitebench import TASKS, InfiniteBenchTask
from locret.eval.benchmarks.jsonl import write_jsonl

CHOICES = ["f", "g", "h", "i"]
RECORDS: dict[str, dict[str, Any]] = {
    "passkey": {"input": "What is the pass key?", "answer": ["71432"]},
    "number_string": {"input": "What is the sequence of digits?", "answer": ["1122"]},
    "kv_retrieval": {"input": '\nKey: "a"\n', "answer": ["b"]},
    "longbook_sum_eng": {"input": "", "answer": ["A summary."]},
    "longbook_choice_eng": {"input": "Who?", "answer": ["g"], "options": CHOICES},
    "longbook_qa_eng": {"input": "Who?", "answer": ["Ann", "Anne"]},
    "longbook_qa_chn": {"input": "谁", "answer": ["素素"]},
    "longdialogue_qa_eng": {"input": "", "answer": ["ACE"]},
    "math_find": {"input": "One number, please. The Second largest number of the list is: ", "answer": [88]},
    "math_calc": {"input": "", "answer": ["1", "4"]},
    "code_run": {"input": "Please give the value of func_12(-3).", "answer": [4]},
    "code_debug": {"input": "Which?", "answer": ["h"], "options": CHOICES},
}
OPTIONS = "\nA. f\nB. g\nC. h\nD. i\n\n"
ENDINGS = {
    "passkey": "about the important information.\n\nTEXT\n\nWhat is the pass key?\n\nThe pass key is",
    "number_string": "there.\n\nTEXT\n\nWhat is the sequence of digits?\n\nThe sequence of digits is",
    "kv_retrieval": 'in the JSON object below.\n\nTEXT\n\n\nKey: "a"\n',
    "longbook_sum_eng": "Summarize the book below.\n\nTEXT\n\nSummary:",
    "longbook_choice_eng": f"question.\n\nTEXT\n\nQuestion: Who?{OPTIONS}The letter of the correct answer is",
    "longbook_qa_eng": "Be very concise in your answer.\n\nTEXT\n\nQuestion: Who?\nAnswer:",
    "longbook_qa_chn": "阅读以下书籍然后回答问题。\n\nTEXT\n\n问题\uff1a谁\n答案\uff1a",
    "longdialogue_qa_eng": "character is.\n\nTEXT\n\nThe name that has been replaced with $$MASK$$ is likely",
    "math_find": "What is the second largest number in the following list?\n\nTEXT\n\nOne number, please. "
    "The Second largest number of the list is: ",
    "math_calc": "\nValues: [8, 5, 7, 3]\n\nExpression: TEXT\nValues:",
    "code_run": "There is a function called func_12 in the following Python code.\n\nTEXT\n\n"
    "Please compute the exact value of func_12(-3). The value of func_12(-3) is",
    "code_debug": f"error that makes it crash.\n\nTEXT\n\nOptions:{OPTIONS}The correct option is:",
}
TRUTHS = {
    "passkey": "71432",
    "kv_retrieval": "b",
    "longbook_choice_eng": ["g", "B"],
    "longbook_qa_eng": ["Ann", "Anne"],
    "math_find": 88,
    "math_calc": [1, 4],
    "code_run": 4,
    "code_debug": ["h", "C"],
}


def write(path: Path, **fields: Any) -> Path:
    write_jsonl(path, [{"id": 7, "context": "TEXT", "options": [], **fields}])
    return path


def test_all_tasks_are_registered() -> None:
    assert list_benchmark_tasks("infinitebench") == sorted(f"infinitebench/{name}" for name in RECORDS)
    assert get_benchmark_task("infinitebench", "math_calc").max_new_tokens == 30000


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_prompts(tmp_path: Path, task: InfiniteBenchTask) -> None:
    [example] = task.load(write(tmp_path / "task.jsonl", **RECORDS[task.name]))
    assert example.uid == "7"
    assert example.document == "TEXT"
    assert example.prompt.endswith(ENDINGS[task.name])
    assert "{" not in example.prompt


@pytest.mark.parametrize("name", TRUTHS)
def test_predictions_have_what_scorers_take(tmp_path: Path, name: str) -> None:
    task = get_benchmark_task("infinitebench", name)
    [example] = task.load(write(tmp_path / "task.jsonl.gz", **RECORDS[name]))
    line = task.prediction(example, "A text")
    assert line == {"id": 7, "prediction": "A text", "ground_truth": TRUTHS[name]}
    assert task.score([json.loads(json.dumps(line))]) <= 100


def test_the_sample_of_the_format(shared_data: Path) -> None:
    path = shared_data / "qa" / "infinitebench_schema_sample.jsonl.gz"
    choices = list(get_benchmark_task("infinitebench", "longbook_choice_eng").load(path))
    answers = list(get_benchmark_task("infinitebench", "longbook_qa_eng").load(path))
    assert (len(choices), len(answers)) == (30, 20)
    assert all(example.label[1] in "ABCD" for example in choices)
    with gzip.open(path, "rt") as file:
        first = json.loads(next(file))
    assert choices[0].document == first["context"]
    assert f"\nB. {first['options'][1]}\n" in choices[0].question
    right = [get_benchmark_task("infinitebench", "longbook_choice_eng").prediction(e, e.label[1]) for e in choices]
    assert get_benchmark_task("infinitebench", "longbook_choice_eng").score(right) == 100


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("passkey", {"context": None}, "line 1 has null in 'context'"),
        ("code_run", {"input": "What?"}, "does not ask for a call"),
        ("math_find", {"input": "What?"}, "does not ask for a number"),
        ("code_debug", {"options": ["f"]}, "has 1 options: there must be four"),
        ("code_debug", {"options": "fghi"}, "'options': give a list of texts"),
        ("code_debug", {"answer": ["z"]}, "give one of the options"),
        ("passkey", {"answer": []}, "give one answer at least"),
    ],
)
def test_bad_records(tmp_path: Path, name: str, fields: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "task.jsonl", **{**RECORDS[name], **fields})
    with pytest.raises(LocretError, match=message):
        list(get_benchmark_task("infinitebench", name).load(path))


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    path = tmp_path / "passkey.jsonl"
    path.write_text('{"input": "?", "answer": ["1"]}\n')
    with pytest.raises(LocretError, match="line 1 has no field 'context': its fields are input, answer"):
        list(get_benchmark_task("infinitebench", "passkey").load(path))
