from __future__ import annotations

import json
from pathlib import Path

import pytest

from locret.folders import alone_in
from tests.cli.conftest import Run, error_line, only_json
from tests.eval.models import TEXT

FIELDS = {
    "policy", "task", "length", "budget", "samples",
    "score", "kv_bytes", "prefill_seconds", "decode_seconds",
}  # fmt: skip


@pytest.fixture
def small(model_folder: Path, tmp_path: Path) -> tuple[object, ...]:
    filler = tmp_path / "filler.txt"
    filler.write_text(TEXT)
    grid = ("--lengths", 400, "--budgets", "64,1/4", "--samples", 2, "--tasks", "magic", "--keys", 2)
    return ("eval", "--model", model_folder, "--policies", "full,locret", "--filler", filler, *grid)


def test_rows_on_stdout_and_in_the_file(run: Run, small: tuple[object, ...], tmp_path: Path) -> None:
    results = only_json(run(*small, "--out", tmp_path / "out", "--json"))["results"]
    lines = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == results
    assert [(row["policy"], row["budget"]) for row in results] == [("full", 400), ("locret", 64), ("locret", 100)]
    assert all(row.keys() >= FIELDS for row in results)
    assert all(0 <= row["score"] <= 100 for row in results)
    again = run(*small, "--out", tmp_path / "out")
    assert again.exit_code == 0
    assert again.stderr.count("from an earlier run") == 3
    assert len((tmp_path / "out" / "results.jsonl").read_text().splitlines()) == 3


def test_rows_of_a_file_of_the_same_name_are_not_those_of_this_one(
    run: Run, small: tuple[object, ...], tmp_path: Path
) -> None:
    out = ("--policies", "full", "--out", tmp_path / "out")
    [row] = only_json(run(*small, *out, "--json"))["results"]
    (tmp_path / "filler.txt").write_text(TEXT.replace("river", "stream"))
    again = run(*small, *out)
    assert again.exit_code == 0
    assert "from an earlier run" not in again.stderr
    assert row["filler"].startswith("filler.txt ")
    assert len((tmp_path / "out" / "results.jsonl").read_text().splitlines()) == 2


def test_a_table_for_people(run: Run, small: tuple[object, ...]) -> None:
    result = run(*small)
    assert result.exit_code == 0
    assert all(word in result.stdout for word in ("magic", "400", "locret", "KiB"))


def test_full_attention_against_itself_and_locret_against_it(run: Run) -> None:
    grid = ("--lengths", 512, "--budgets", "1/8", "--samples", 1, "--tasks", "text")
    full, kept = only_json(run("eval", "--model", "builtin", "--policies", "full,locret", *grid, "--json"))["results"]
    assert (full["score"], full["agreement"], full["kl"], full["nll"]) == (100, 100, 0, full["full_nll"])
    assert kept["full_nll"] == full["nll"]
    assert kept["kl"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--policies", "full,best"), "unknown part 'best' in method 'best': choose from policy: full"),
        (("--policies", "full,recall"), "storage 'recall' lives on what is evicted"),
        (("--policies", "full,minference", "--positions", "compact"), "keeps everything at its place"),
        (("--policies", "infllm", "--budgets", "1/4,1/128"), "a budget of 32 has no room for them all"),
        (("--tasks", "kv_retrieval_of_nothing"), "unknown task 'kv_retrieval_of_nothing': choose one of"),
        (("--budgets", "0"), "budget is 0: give at least 1"),
        (("--budgets", "x"), "budget is 'x': give a number of units"),
        (("--samples", 0), "samples is 0"),
        (("--tasks", "mix,repeat", "--query-first"), "repeat has no question to stand first"),
        (("--lengths", 0), "length is 0"),
        (("--positions", "other"), "budget positions is 'other'"),
        (("--budgets", 64, "--pin-newest", 65), "budget size is 64, less than the units kept in any case"),
        (("--filler", "/no/such/file"), "/no/such/file"),
    ],
)
def test_bad_values_are_refused_before_weights_are_loaded(run: Run, options: tuple[object, ...], message: str) -> None:
    assert message in error_line(run("eval", "--model", "no/such-model", *options))


@pytest.mark.parametrize("options", [("--lengths", "a"), ("--policies", ","), ("--seed", "x")])
def test_lists_that_are_not_lists_are_bad_usage(run: Run, options: tuple[str, str]) -> None:
    assert run("eval", *options).exit_code == 2


def test_no_room_for_the_facts(run: Run, small: tuple[object, ...]) -> None:
    line = error_line(run(*small, "--lengths", 40, "--budgets", 16))
    assert "tokens are too few for the needles" in line


def test_one_process_evaluates_in_a_folder(run: Run, small: tuple[object, ...], tmp_path: Path) -> None:
    with alone_in(tmp_path / "out"):
        line = error_line(run(*small, "--out", tmp_path / "out"))
        assert f"another process is writing into {tmp_path / 'out'}: wait" in line
        assert "another process" in error_line(run(*small, "--out", tmp_path / "out", "--merge", tmp_path))
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_folder_for_results(run: Run, small: tuple[object, ...], tmp_path: Path) -> None:
    assert "filler.txt is a file: give a folder" in error_line(run(*small, "--out", tmp_path / "filler.txt"))


def test_a_filler_whose_name_is_no_text(run: Run, small: tuple[object, ...], tmp_path: Path) -> None:
    named = tmp_path / "caf\udce9.txt"
    named.write_text(TEXT)
    command = (*small, "--policies", "full", "--filler", named, "--out", tmp_path / "out")
    [row] = only_json(run(*command, "--json"))["results"]
    assert row["filler"].startswith("caf\udce9.txt ")
    assert "from an earlier run" in run(*command).stderr
