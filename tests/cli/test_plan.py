from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import Result

import locret
from tests.cli.conftest import Run, error_line, only_json
from tests.conftest import tiny_llama

FIELDS = {"weights_bytes", "kv_bytes", "full_kv_bytes", "activation_bytes", "total_bytes", "fits", "budget"}
PAPER = ("plan", "--model", "llama-3.1-8b", "--length", 131072, "--memory", "24GB")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    tiny_llama().config.save_pretrained(tmp_path)
    return tmp_path / "config.json"


def test_what_fits_in_24_gb(run: Run) -> None:
    found = only_json(run(*PAPER, "--json"))
    assert found.keys() > FIELDS
    assert found["weights_bytes"] == 2 * 8_030_261_248
    assert found["full_kv_bytes"] == 16 * 2**30
    assert found["fits"] is True and found["full_fits"] is False
    # Without --budget the plan is for the largest one.
    assert found["budget"] == found["planned_budget"] > 16384
    assert found["total_bytes"] + found["reserve_bytes"] <= 24 * 10**9
    assert found["total_bytes"] == found["weights_bytes"] + found["kv_bytes"] + found["activation_bytes"]


def test_a_given_budget_is_planned(run: Run) -> None:
    options = ("--budget", 16384, "--chunk", 1024, "--stabilizers", 2500, "--local", 100)
    found = only_json(run(*PAPER, *options, "--json"))
    assert found["planned_budget"] == 16384
    assert found["kv_bytes"] == (16384 + 100) * 131072
    largest = found["budget"]
    at = only_json(run(*PAPER, *options, "--budget", largest, "--json"))
    beyond = only_json(run(*PAPER, *options, "--budget", largest + 1, "--json"))
    assert (at["fits"], beyond["fits"]) == (True, False)


def test_the_heads_are_as_wide_as_those_that_the_model_has(run: Run, config: Path) -> None:
    def total(*options: object) -> int:
        return int(only_json(run("plan", "--length", 4096, "--budget", 512, "--json", *options))["total_bytes"])

    width = locret.load_builtin()[2].config.width
    assert total("--model", "builtin") == total("--model", "builtin", "--width", width) < total("--width", 1024)
    assert total("--model", config) == total("--model", config, "--width", 1024)
    locret.RetainingHeads.from_config(tiny_llama().config, width=16).save_pretrained(config.parent / "heads")
    assert total("--model", config) == total("--model", config, "--width", 16)


def test_fewer_bits_leave_room(run: Run) -> None:
    plain, packed = (
        only_json(run(*PAPER, "--json", *more)) for more in ((), ("--kv-bits", 4, "--weight-bits", 4))
    )  # fmt: skip
    assert packed["weights_bytes"] < 0.4 * plain["weights_bytes"]
    assert packed["budget"] > 2 * plain["budget"]
    assert packed["full_kv_bytes"] == plain["full_kv_bytes"]


def test_storages_are_planned_for(run: Run) -> None:
    plain, away, packed = (
        only_json(run(*PAPER, "--budget", 16384, "--json", *more))
        for more in ((), ("--storage", "offloaded"), ("--policy", "locret+quant4"))
    )
    assert plain["offloaded_bytes"] == packed["offloaded_bytes"] == 0
    assert away["offloaded_bytes"] > 0.9 * away["kv_bytes"]
    assert away["total_bytes"] < plain["total_bytes"] < plain["total_bytes"] + away["offloaded_bytes"]
    assert packed["kv_bytes"] < 0.35 * plain["kv_bytes"]
    same = only_json(run(*PAPER, "--budget", 16384, "--json", "--policy", "locret", "--storage", "quant4"))
    assert same == packed
    far = only_json(run(*PAPER, "--policy", "infllm", "--json"))
    assert far["kv_bytes"] >= far["full_kv_bytes"] > far["offloaded_bytes"] > 0.9 * far["full_kv_bytes"]
    assert "elsewhere" in run(*PAPER, "--policy", "infllm").stdout


def test_full_attention_does_not_fit(run: Run) -> None:
    found = only_json(run(*PAPER, "--policy", "full", "--json"))
    assert found["kv_bytes"] == found["full_kv_bytes"]
    assert (found["fits"], found["budget"]) == (False, 0)
    assert 16384 < found["full_length"] < 131072
    again = only_json(run(*PAPER[:-2], "--policy", "full", "--memory", "40GB", "--json"))
    assert again["fits"] is True


def test_a_configuration_file_is_enough(run: Run, config: Path) -> None:
    for name in (config, config.parent):
        found = only_json(run("plan", "--model", name, "--length", 400, "--memory", "1GB", "--json"))
        assert found["weights_bytes"] == sum(weight.nbytes for weight in tiny_llama().parameters())


def test_without_memory_it_is_this_machine(run: Run) -> None:
    found = only_json(run("plan", "--length", 4096, "--device", "cpu", "--json"))
    assert found["memory_bytes"] > 10**8
    assert found["reserve_bytes"] == 64 * 2**20


def test_for_people(run: Run) -> None:
    done: Result = run(*PAPER, "--budget", 16384, "--chunk", 1024)
    assert done.exit_code == 0
    assert "16.0 GiB without eviction" in done.stdout
    assert "fits" in done.stdout and "largest budget" in done.stdout
    assert "does not fit" in run(*PAPER, "--policy", "full").stdout


def test_less_memory_than_a_process_takes(run: Run) -> None:
    done = run("plan", "--length", 4096, "--local", 40, "--memory", "1MB")
    assert done.exit_code == 0, done.stderr
    assert "does not fit: the memory is 976.6 KiB, and the process itself takes 512.0 MiB" in done.stdout
    assert "none fits" in done.stdout and "of -" not in done.stdout


@pytest.mark.parametrize("length", [1000, 4096])
def test_given_values_may_need_more_than_the_default_size(run: Run, length: int) -> None:
    options = ("plan", "--length", length, "--local", 2000, "--memory", "24GB", "--json")
    found = only_json(run(*options))
    assert (found["fits"], found["budget"], found["planned_budget"]) == (True, length, max(2000, length))
    assert only_json(run(*options[:-2], "1MB", "--json"))["planned_budget"] == 2000


def test_a_prompt_beyond_the_window_gets_a_note(run: Run) -> None:
    options = ("plan", "--length", 100_000, "--memory", "1GB")
    assert "window of 32768" in only_json(run(*options, "--json"))["note"]
    assert "note" not in only_json(run(*options, "--positions", "compact", "--json"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--memory", "24 apples"), "memory is '24 apples'"),
        (("--model", "no/such/model"), "or name a shape: llama-3.1-8b"),
        (("--policy", "none"), "unknown part 'none'"),
        (("--kv-bits", 5), "KV bits are 5"),
        (("--memory", ""), "memory is ''"),
        (("--memory", "1e400GB"), "memory is '1e400GB'"),
        (("--storage", ""), "unknown part ''"),
        (("--budget", 1 << 40), "budget size is 1099511627776: give at least 1, at most 1073741824"),
        (("--policy", "locret+quant4", "--storage", "disk"), "names storage 'disk' beside 'quant4'"),
        (("--policy", "minference"), "depends on the prompt"),
        (("--weight-bits", 5), "weight bits are 5"),
        (("--budget", 10, "--stabilizers", 20), "budget size is 10"),
        (("--positions", "other"), "budget positions is 'other'"),
    ],
)
def test_bad_values_are_one_line(run: Run, options: tuple[str, ...], words: str) -> None:
    assert words in error_line(run("plan", "--length", 100, *options))


@pytest.mark.parametrize(
    "options",
    [
        ("--length", 0),
        ("--device", "tpu"),
        ("--budget", 0),
        ("--length", 10**12),
        ("--width", 10**9),
        ("--no-such-flag",),
    ],
)
def test_bad_usage_exits_with_2(run: Run, options: tuple[str, ...]) -> None:
    assert run("plan", *options).exit_code == 2


def test_the_memory_of_a_gpu_that_is_not_here_is_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "give its --memory, such as 24GB, or --device cpu" in error_line(run("plan", "--device", "cuda"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_hidden_layers", 10**9),
        ("vocab_size", 10**30),
        ("hidden_size", 0),
        ("head_dim", -1),
        ("num_key_value_heads", 0),
    ],
)
def test_sizes_that_no_model_has_are_refused(run: Run, config: Path, field: str, value: int) -> None:
    config.write_text(json.dumps({**json.loads(config.read_text()), field: value}))
    line = error_line(run("plan", "--model", config, "--length", 100, "--memory", "1GB"))
    assert field in line and "unexpected" not in line


def test_a_configuration_that_makes_no_model_is_refused(run: Run, config: Path) -> None:
    config.write_text(json.dumps({**json.loads(config.read_text()), "hidden_act": "sillu"}))
    line = error_line(run("plan", "--model", config, "--length", 100, "--memory", "1GB"))
    assert "no model can be made of this llama configuration" in line or "gives no configuration" in line
