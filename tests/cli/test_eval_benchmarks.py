"""`locret eval` from end to end on benchmarks, with tiny models, short lengths and few samples."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run, error_line, only_json
from tests.eval.models import TEXT

PNG = b"\x89PNG"
INFINITEBENCH = "infinitebench_schema_sample.jsonl.gz"


@pytest.fixture
def small(model_folder: Path, tmp_path: Path) -> tuple[object, ...]:
    filler = tmp_path / "filler.txt"
    filler.write_text(TEXT)
    settings = ("--policies", "streaming_llm,random", "--budgets", 64, "--samples", 2, "--max-new-tokens", 3)
    return ("eval", "--model", model_folder, "--filler", filler, *settings)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_original_file_of_leval(run: Run, small: tuple[object, ...], shared_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    task = ("--tasks", "leval/coursera", "--data", shared_data / "qa" / "leval", "--lengths", 1500, "--out", out)
    results = only_json(run(*small, *task, "--json"))["results"]
    assert [(row["policy"], row["task"], row["samples"]) for row in results] == [
        ("streaming_llm", "leval/coursera", 2), ("random", "leval/coursera", 2),
    ]  # fmt: skip
    assert all(row["low"] <= row["score"] <= row["high"] for row in results)
    assert all(row["data"].startswith("coursera.jsonl.gz ") for row in results)
    files = sorted(out.glob("predictions/*/leval-coursera.jsonl"))
    assert [path.parent.name.split("__")[0] for path in files] == ["random", "streaming_llm"]
    for path, row in zip(files, reversed(results), strict=True):
        scored = only_json(run("score", "--benchmark", "leval", "--predictions", path, "--json"))
        assert scored == {"score": pytest.approx(row["score"], abs=0.01), "samples": 2}
    assert run(*small, *task).stderr.count("from an earlier run") == 2


def test_damaged_lines_stop_a_run_or_are_left_out(run: Run, small: tuple[object, ...], tmp_path: Path) -> None:
    record = {"instructions": ["Who?"], "outputs": ["A"], "input": TEXT[:900], "evaluation": "exam"}
    data = tmp_path / "coursera.jsonl"
    data.write_text(f"{json.dumps(record)}\n{{'a'\n{json.dumps({**record, 'input': None})}\n{json.dumps(record)}\n")
    command = (*small, "--tasks", "leval/coursera", "--data", data, "--lengths", 500, "--json")
    assert "coursera.jsonl, line 2 is not JSON" in error_line(run(*command))
    result = run(*command, "--skip-damaged")
    assert [row["samples"] for row in only_json(result)["results"]] == [2, 2]
    told = [line for line in result.stderr.splitlines() if line.startswith("skipped: ")]
    assert len(told) == 2
    assert "line 3 has null in 'input'" in told[1]


def test_the_questions_first_in_infinitebench(
    run: Run, small: tuple[object, ...], shared_data: Path, tmp_path: Path
) -> None:
    options = ("--lengths", 900, "--query-first", "--data", shared_data / "qa" / INFINITEBENCH, "--out", tmp_path)
    [*rows] = only_json(run(*small, "--tasks", "infinitebench/longbook_qa_eng", *options, "--json"))["results"]
    assert [row["query_first"] for row in rows] == [True, True]
    for path in tmp_path.rglob("infinitebench-longbook_qa_eng.jsonl"):
        assert [line.keys() >= {"id", "prediction", "ground_truth", "uid"} for line in lines_of(path)] == [True] * 2


def test_ruler_on_the_builtin_model(run: Run, tmp_path: Path) -> None:
    options = (
        "--policies",
        "full,streaming_llm",
        "--lengths",
        512,
        "--budgets",
        64,
        "--samples",
        2,
        "--max-new-tokens",
        4,
    )
    result = only_json(run("eval", "--tasks", "niah_single_1", *options, "--out", tmp_path, "--json"))
    assert [(row["policy"], row["length"]) for row in result["results"]] == [("full", 512), ("streaming_llm", 512)]
    for path in tmp_path.rglob("niah_single_1.jsonl"):
        assert all(0 < line["length"] <= 512 and 0 <= line["depth"] < 1 for line in lines_of(path))


def test_synthetic_tasks_with_plots_and_kvpress_output(run: Run, small: tuple[object, ...], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out, kvpress = tmp_path / "out", tmp_path / "kvpress"
    options = ("--tasks", "kv_retrieval,magic", "--lengths", 600, "--out", out, "--kvpress-output", kvpress)
    result = only_json(run(*small, *options, "--plots", "--json"))
    assert len(result["results"]) == 4
    assert {Path(path).name for path in result["plots"]} == {path.name for path in (out / "plots").iterdir()}
    assert all(Path(path).read_bytes().startswith(PNG) for path in result["plots"])
    assert sum(Path(path).name.startswith("heat__") for path in result["plots"]) == 4
    assert len(result["kvpress_output"]) == 4
    assert {file.name for file in Path(result["kvpress_output"][0]).iterdir()} == {
        "predictions.csv", "metrics.json", "config.yaml",
    }  # fmt: skip


def test_shards_and_their_merging(run: Run, small: tuple[object, ...], tmp_path: Path) -> None:
    def comparable(rows: list[dict[str, Any]]) -> list[str]:
        timeless = ({name: value for name, value in row.items() if "seconds" not in name} for row in rows)
        return sorted(json.dumps(row, sort_keys=True) for row in timeless)

    command = (*small, "--tasks", "magic", "--lengths", "300,350", "--json")
    whole = only_json(run(*command))["results"]
    for index in range(2):
        run(*command, "--shard", f"{index}/2", "--out", tmp_path / str(index))
    merge = ("--merge", tmp_path / "0", "--merge", tmp_path / "1", "--out", tmp_path / "all")
    merged = only_json(run(*command, *merge))["results"]
    assert comparable(merged) == comparable(whole)
    assert comparable(lines_of(tmp_path / "all" / "results.jsonl")) == comparable(whole)
    assert len(list((tmp_path / "all" / "predictions").iterdir())) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tasks", "niah_singel_1"), "unknown task 'niah_singel_1': choose one of city, code, "),
        (("--tasks", "niah_singel_1"), "(did you mean niah_single_1 or "),
        (("--tasks", "leval/nothing"), "leval has no task 'nothing': choose one of codeU,"),
        (("--tasks", "leval/tpo", "--data", "/no/such/file.jsonl"), "benchmark data '/no/such/file.jsonl' not found"),
        (("--tasks", "qa_2"), "give it as --data qa_2=FILE"),
        (("--tasks", "magic", "--max-new-tokens", 0), "max_new_tokens is 0"),
        (("--tasks", "magic", "--shard", "2/2"), "shard is '2/2': give i/n with i from 0 to n - 1"),
        (("--tasks", "magic", "--data", "a", "--data", "b"), "--data names a and b for all tasks"),
        (("--tasks", "magic", "--merge", "/no/such", "--out", "/tmp/x"), "/no/such has no results.jsonl"),
    ],
)
def test_bad_values_are_refused_before_weights_are_loaded(run: Run, options: tuple[object, ...], message: str) -> None:
    assert message in error_line(run("eval", "--model", "no/such-model", *options))


def test_a_chat_needs_a_template(run: Run, small: tuple[object, ...]) -> None:
    line = error_line(run(*small, "--tasks", "magic", "--lengths", 300, "--chat"))
    assert "--chat needs a tokenizer with a chat template" in line


@pytest.mark.parametrize("option", [("--plots",), ("--kvpress-output", "x"), ("--merge", "x")])
def test_what_works_on_files_needs_a_folder(run: Run, option: tuple[str, ...]) -> None:
    assert run("eval", *option).exit_code == 2


def test_what_is_not_installed_is_refused_first(
    run: Run, small: tuple[object, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "--workers needs Ray: pip install 'locret[ray]'" in error_line(run(*small, "--workers", 2))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "no plots without matplotlib" in error_line(run(*small, "--plots", "--out", tmp_path / "out"))
    assert not (tmp_path / "out").exists()
