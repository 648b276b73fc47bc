from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from locret.errors import LocretError
from locret.eval.benchmarks.base import get_benchmark_task
from locret.eval.benchmarks.infinitebench_generate import (
    NOISE,
    RANKS,
    generate,
    list_generators,
    sought_number,
    units_for,
)
from locret.eval.benchmarks.jsonl import write_jsonl

SMALL = {"passkey": 58, "number_string": 58, "kv_retrieval": 20, "math_find": 101, "code_run": 40}
ORIGINAL = {"passkey": 590, "number_string": 590, "kv_retrieval": 500, "math_find": 350, "code_run": 400}


def small(name: str, seed: int = 0) -> list[dict[str, Any]]:
    return list(generate(name, units=SMALL[name], seed=seed))


def test_generators() -> None:
    assert list_generators() == sorted(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_same_seed_same_file(tmp_path: Path, name: str) -> None:
    for path, seed in (("a.jsonl.gz", 1), ("b.jsonl.gz", 1), ("c.jsonl.gz", 2)):
        write_jsonl(tmp_path / path, generate(name, samples=20, units=SMALL[name], seed=seed))
    first, again, other = ((tmp_path / f"{letter}.jsonl.gz").read_bytes() for letter in "abc")
    assert first == again
    assert first != other


@pytest.mark.parametrize("name", SMALL)
def test_right_answers_get_the_full_score(tmp_path: Path, name: str) -> None:
    records = small(name)
    assert [record["id"] for record in records] == list(range(ORIGINAL[name]))
    write_jsonl(tmp_path / f"{name}.jsonl", records)
    task = get_benchmark_task("infinitebench", name)
    lines = [task.prediction(example, f" {example.label}") for example in task.load(tmp_path / f"{name}.jsonl")]
    assert task.score(lines) == 100
    assert task.score([{**line, "prediction": "1000"} for line in lines]) == 0


@pytest.mark.parametrize("name", ["passkey", "number_string"])
def test_needles_stand_where_they_must(name: str) -> None:
    records = small(name)
    for record in records:
        [key] = record["answer"]
        line = record["id"] // 10  # ten records for each of the 59 places
        lines = record["context"].splitlines(keepends=True)
        assert len(lines) == SMALL[name] + 1
        assert lines[line].count(key) == 2
        assert lines[:line] + lines[line + 1 :] == [NOISE] * SMALL[name]
    assert len({record["answer"][0] for record in records}) > 500


def test_keys_of_digits() -> None:
    assert all(re.fullmatch(r"\d{5}", record["answer"][0]) for record in small("passkey"))
    for record in small("number_string"):
        key = record["answer"][0]
        assert re.fullmatch(r"\d{10}", key)
        assert sum(one == other for one, other in itertools.pairwise(key)) >= 5


def test_pairs() -> None:
    places = []
    for record in small("kv_retrieval"):
        pairs = json.loads(record["context"].removeprefix("JSON data:\n"))
        assert len(pairs) == 20
        key = record["input"].split('"')[1]
        assert record["answer"] == [pairs[key]]
        assert record["context"].count(record["answer"][0]) == 1
        places.append(list(pairs).index(key))
    assert places == [i * 20 // 500 for i in range(500)]


def test_numbers() -> None:
    for record in small("math_find"):
        numbers = json.loads(record["context"])
        rank = RANKS[record["id"] // 50]
        assert len(numbers) == 101
        assert set(numbers) <= set(range(100))
        assert f"The {rank} number of the list is: " in record["input"]
        assert record["answer"] == [sought_number(rank, numbers)]


@pytest.mark.parametrize(
    ("rank", "number"),
    [("largest", 9), ("second largest", 7), ("third largest", 4), ("smallest", 1), ("second smallest", 3),
     ("third smallest", 4), ("median", 5.5)],
)  # fmt: skip
def test_sought_numbers(rank: str, number: float) -> None:
    assert sought_number(rank, [9, 1, 7, 9, 3, 4, 1, 7]) == number


def test_an_odd_list_has_its_median() -> None:
    assert sought_number("median", [3, 1, 2]) == 2


def test_functions_are_python() -> None:
    records = small("code_run")
    for record in records[::16]:
        call = re.search(r"func_\d+\(-?\d+\)", record["input"])
        assert call is not None
        module: dict[str, Any] = {}
        exec(record["context"].partition(":\n\n")[2], module)
        assert [eval(call[0], module)] == record["answer"]
    depths = [len(chain(record)) for record in records]
    assert depths == [depth for depth in (2, 4, 6, 8, 10) for _ in range(80)]


def chain(record: dict[str, Any]) -> list[str]:
    """Names of the functions that the one asked for calls in turn, itself first."""
    bodies = dict(re.findall(r"def (func_\d+)\(x\):\n    return (.+)\n", record["context"]))
    names = re.findall(r"func_\d+", record["input"])
    while called := re.findall(r"func_\d+", bodies[names[-1]]):
        names += called
    return names


def test_the_original_size() -> None:
    [record] = generate("passkey", samples=1)
    assert len(record["context"].splitlines()) == 5221
    [record] = generate("code_run", samples=1)
    assert record["context"].count("def func_") == 550


@pytest.mark.parametrize("name", SMALL)
def test_units_for_a_number_of_tokens(name: str) -> None:
    task = get_benchmark_task("infinitebench", name)
    lengths: list[int] = []

    def count(text: str) -> int:
        lengths.append(len(text))
        return len(text)

    units = units_for(name, 4000, count)
    assert units > 10
    assert max(length for length in lengths if length <= 4000) > 3800
    assert task.name == name
    with pytest.raises(LocretError, match=f"20 tokens are too few for {name}"):
        units_for(name, 20, count)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("math_calc",), "unknown InfiniteBench generator 'math_calc'"),
        (("passkey", 0), "samples is 0"),
        (("math_find", 1, 2), "units of math_find is 2: give at least 3"),
    ],
)
def test_bad_arguments(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(LocretError, match=message):
        generate(*arguments)
