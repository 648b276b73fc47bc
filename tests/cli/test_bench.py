from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from locret.bench.contestants import Bare
from locret.errors import LocretError
from tests.cli.conftest import Run, error_line, only_json
from tests.conftest import tiny_llama

FIELDS = {"policy", "length", "prefill_seconds", "decode_tokens_per_second", "peak_memory_bytes", "kv_bytes"}
QUICK = ("--budget", 32, "--chunk", 16, "--repeats", 2, "--new-tokens", 3)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    tiny_llama().config.save_pretrained(tmp_path)
    return tmp_path / "config.json"


def test_random_weights_of_a_configuration(run: Run, config: Path) -> None:
    options = ("--random-weights", "--width", 8, "--lengths", "90,60", "--policies", "locret,full,transformers,limit")
    found = only_json(run("bench", "--model", config, *options, *QUICK, "--json"))
    rows = found["results"]
    assert [(row["policy"], row["length"]) for row in rows] == [
        (name, length) for length in (90, 60) for name in ("locret", "full", "transformers", "limit")
    ]
    for row in rows:
        assert row.keys() > FIELDS
        assert row["repeats"] == 2
        assert row["prefill_seconds"] > 0 and row["decode_tokens_per_second"] > 0
        assert row["prefill_to_limit"] > 0 and row["prefill_to_transformers"] > 0
    unit = 2 * 3 * 2 * 8 * 4
    assert [row["kv_bytes"] for row in rows[:4]] == [40 * unit, 90 * unit, 90 * unit, 40 * unit]
    assert found["setting"]["random_weights"] is True
    assert found["setting"]["budget"]["size"] == 32


def test_a_real_model_and_its_heads(run: Run, model_folder: Path) -> None:
    done = run("bench", "--model", model_folder, "--lengths", 60, "--policies", "locret,random,quant4+locret", *QUICK)
    assert done.exit_code == 0, done.stderr
    assert all(word in done.stdout for word in ("locret", "random", "quant4", "read tok/s"))


def test_static_shapes(run: Run, config: Path) -> None:
    options = ("--random-weights", "--width", 8, "--lengths", 60, "--policies", "locret,limit", *QUICK)
    found = only_json(run("bench", "--model", config, *options, "--static", "--json"))
    assert found["setting"]["static"] is True
    assert all(row["decode_tokens_per_second"] > 0 for row in found["results"])
    done = run("bench", "--model", config, *options, "--static", "--policies", "locret+quant4")
    assert "static decoding is not possible: the storage does not hold plain units" in error_line(done)


def test_profile(run: Run, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("locret.bench.roofline.MATRIX", {"cpu": 64})
    monkeypatch.setattr("locret.bench.roofline.BUFFER", {"cpu": 1 << 16})
    options = ("--random-weights", "--width", 8, "--lengths", 90, "--policies", "locret,limit", *QUICK, "--profile")
    found = only_json(run("bench", "--model", config, *options, "--json"))
    [profile] = found["profile"]  # of methods of the engine
    assert profile["policy"] == "locret"
    assert sum(part["share"] for part in profile["parts"]) == pytest.approx(1.0, abs=0.05)
    assert profile["roofline"]["flops"] > 0
    assert found["machine"]["flops"] > 0
    shown = run("bench", "--model", config, *options)
    assert "roofline" in shown.stdout and "mlp" in shown.stdout


def test_one_without_room_does_not_stop_the_others(run: Run, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr("locret.bench.contestants.Bare.read", full)
    options = ("--model", config, "--random-weights", "--lengths", 60, "--policies", "full,transformers", *QUICK)
    kept, gone = only_json(run("bench", *options, "--json"))["results"]
    assert kept["prefill_seconds"] > 0 and gone["prefill_seconds"] is None
    assert "out of memory" in run("bench", *options).stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--policies", "locret,none"), "unknown part 'none'"),
        (("--model", "no/such", "--random-weights"), "or name a shape: llama-3.1-8b"),
        (("--random-weights", "--dtype", "int3"), "dtype is 'int3'"),
        (("--random-weights", "--device", "nowhere"), "device is 'nowhere'"),
        (("--budget", 10, "--stabilizers", 20), "budget size is 10"),
        (("--lengths", 40_000), "more than the model's window of 32768"),
    ],
)
def test_bad_values_are_one_line(run: Run, options: tuple[str, ...], words: str) -> None:
    assert words in error_line(run("bench", "--repeats", 1, *options))


@pytest.mark.parametrize(
    "options",
    [
        ("--lengths", "0"),
        ("--lengths", "many"),
        ("--policies", ","),
        ("--repeats", 0),
        ("--seed", 1 << 64),
        ("--seed", -1),
        ("--lengths", 10**12),
        ("--width", 10**9),
    ],
)
def test_bad_usage_exits_with_2(run: Run, options: tuple[str, ...]) -> None:
    assert run("bench", *options).exit_code == 2


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be measured."""

    def run_once(*_: object, **__: object) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr("locret.bench.measure.run_once", run_once)


@pytest.mark.usefixtures("never")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--lengths", "600,700"), "more than the model's window of 512"),
        (("--lengths", 511), "more than the model's window of 512"),  # with three tokens of an answer
        (
            ("--lengths", 10**9, "--positions", "compact", "--policies", "random"),
            "a prompt of 1000000000 tokens would take",
        ),
        (("--lengths", 60, "--width", 1 << 20, "--model", "llama-3.1-70b"), "in bfloat16 would take"),
        (("--lengths", 60, "--device", "xla"), "device is 'xla'"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is(
    run: Run, config: Path, options: tuple[object, ...], words: str
) -> None:
    given = ("--model", config, "--random-weights", "--width", 8, "--policies", "transformers,full", *QUICK)
    assert words in error_line(run("bench", *given, *options))


def test_a_length_that_somebody_cannot_read_is_left_out_and_the_others_are_measured(run: Run, config: Path) -> None:
    options = ("--model", config, "--random-weights", "--width", 8, "--policies", "transformers,full", *QUICK)
    done = run("bench", *options, "--lengths", "60,600", "--json")
    rows = only_json(done)["results"]
    assert [(row["length"], row["prefill_seconds"] is None) for row in rows] == [(60, False)] * 2 + [(600, True)] * 2
    assert all("more than the model's window of 512" in row["reason"] for row in rows[2:])
    assert done.stderr.count("left out: 602 tokens are more") == 1
    assert "left out" in run("bench", *options, "--lengths", "60,600").stdout


def test_what_was_measured_before_something_went_wrong_is_shown(
    run: Run, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(contestant: Bare, ids: list[int], *more: object) -> object:
        if len(ids) == 90:
            raise LocretError("no more")
        return read(contestant, ids, *more)

    read = Bare.read
    monkeypatch.setattr("locret.bench.contestants.Bare.read", broken)
    options = ("--random-weights", "--lengths", "60,90", "--policies", "transformers", *QUICK)
    for more in ((), ("--json",)):
        done = run("bench", "--model", config, *options, *more)
        assert done.exit_code == 1
        assert done.stderr.endswith("locret: no more\n")
        shown = done.stderr if more else done.stdout
        assert "transformers" in shown and re.search(r"\b60\b", shown) and not re.search(r"\b90\b", shown)
        assert not more or done.stdout == ""


def test_on_the_cpu_one_without_room_does_not_stop_the_others(
    run: Run, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        torch.empty(1 << 50)

    monkeypatch.setattr("locret.bench.contestants.Bare.read", full)
    options = ("--model", config, "--random-weights", "--lengths", 60, "--policies", "full,transformers", *QUICK)
    kept, gone = only_json(run("bench", *options, "--json"))["results"]
    assert kept["prefill_seconds"] > 0 and gone["prefill_seconds"] is None
