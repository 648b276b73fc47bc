"""All 13 tasks: the same file for the same seed, and lengths that are exact to the tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from locret.eval.ruler import Recipe, Sources, get_ruler_task, list_ruler_tasks, records, write_records

TASKS = list_ruler_tasks()
# Tokens that a unit of haystack has at most with the built-in tokenizer: a line, a word, all repeats of a word.
UNIT = {
    "niah_single_1": 32, "niah_multikey_2": 64, "niah_multikey_3": 128, "vt": 32, "cwe": 60, "qa_1": 200, "qa_2": 100,
}  # fmt: skip
WORD = 16
LEAST = {"cwe": 1024}  # 60 numbered words and the example do not fit into less


def lengths_of(task: str) -> list[int]:
    return [length for length in (512, 1024, 2048, 4096) if length >= LEAST.get(task, 0)]


@pytest.mark.parametrize(("task", "length"), [(task, length) for task in TASKS for length in lengths_of(task)])
def test_lengths_are_exact(task: str, length: int, tokenizer: Any, sources_of: dict[str, Sources]) -> None:
    made = list(records(Recipe(task, length, 3, sources=sources_of.get(task, Sources())), tokenizer))
    assert [record["index"] for record in made] == [0, 1, 2]
    for record in made:
        assert list(record) == ["index", "input", "outputs", "length", "answer_prefix"]
        ids = tokenizer(record["input"] + record["answer_prefix"], add_special_tokens=False)["input_ids"]
        assert record["length"] == len(ids) + get_ruler_task(task).max_new_tokens
        assert record["length"] <= length
        if task == "qa_2" and length > 1024:  # the file has no more documents
            assert all(f"Chair {number}\n" in record["input"] for number in range(8))
        else:
            assert length - record["length"] < UNIT.get(task, WORD)


@pytest.mark.parametrize("task", TASKS)
def test_the_same_seed_gives_the_same_file(
    task: str, tokenizer: Any, sources_of: dict[str, Sources], tmp_path: Path
) -> None:
    sources = sources_of.get(task, Sources())
    recipe = Recipe(task, 1024, 4, sources=sources)
    told: list[tuple[int, int]] = []
    written = write_records(tmp_path / "a.jsonl", recipe, tokenizer, lambda done, total: told.append((done, total)))
    write_records(tmp_path / "b.jsonl", recipe, tokenizer)
    write_records(tmp_path / "fewer.jsonl", Recipe(task, 1024, 2, sources=sources), tokenizer)
    write_records(tmp_path / "other.jsonl", Recipe(task, 1024, 4, seed=43, sources=sources), tokenizer)
    first, again, fewer, other = ((tmp_path / f"{name}.jsonl").read_bytes() for name in ("a", "b", "fewer", "other"))
    assert first == again
    assert first.startswith(fewer)
    assert first != other
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    lengths = [json.loads(line)["length"] for line in first.splitlines()]
    assert (written.samples, written.shortest, written.longest) == (4, min(lengths), max(lengths))
    assert len(set(first.splitlines())) == 4


def test_a_file_that_fails_half_way_is_not_there(tokenizer: Any, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_records(tmp_path / "a.jsonl", Recipe("vt", 1024, 2), tokenizer, stop)
    assert list(tmp_path.iterdir()) == []


def test_all_tasks_are_there() -> None:
    assert len(TASKS) == 13
    answers = {get_ruler_task(task).max_new_tokens for task in TASKS if task.startswith("niah")}
    assert answers == {128}
    assert [get_ruler_task(task).max_new_tokens for task in ("vt", "cwe", "fwe", "qa_1", "qa_2")] == [
        30,
        120,
        50,
        32,
        32,
    ]
