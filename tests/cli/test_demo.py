from __future__ import annotations

import os
from contextlib import redirect_stdout
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import locret
from locret.cli.demo import FACTS, POLICIES, demo_command
from locret.cli.demo_chat import MAX_NEW_TOKENS, Prompts
from locret.cli.guide import QUESTIONS, GuideQuestion, guide
from locret.errors import LocretError
from locret.models.checkpoint import BUILTIN
from tests.cli.conftest import Run, error_line, only_json
from tests.conftest import tiny_llama
from tests.eval.models import byte_llama, byte_tokenizer

CHAT = "[user]{{ messages[0].content }}[model]"


@pytest.fixture(autouse=True)
def tiny_builtin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny random model in the place of the built-in one."""
    model = byte_llama()
    heads = locret.RetainingHeads.from_config(model.config, width=16)

    def load(*_: Any) -> tuple[Any, Any, locret.RetainingHeads]:
        return model, byte_tokenizer(), heads

    monkeypatch.setattr("locret.cli.loading.load_model", load)


def test_rows_strip_and_picture(run: Run, tmp_path: Path) -> None:
    picture = tmp_path / "kept.png"
    shown = run("demo", "--length", 1600, "--budget", "1/4", "--out", picture)
    assert shown.exit_code == 0, shown.stderr
    assert all(name in shown.stdout for name in POLICIES)
    marks = next(line for line in shown.stdout.splitlines() if "△" in line and "fact" not in line)
    assert 1 <= marks.count("△") <= FACTS
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert str(picture) in shown.stderr.replace("\n", "")


def test_json_has_the_rows_of_eval(run: Run, tmp_path: Path) -> None:
    result = only_json(run("demo", "--length", 1600, "--budget", 100, "--out", tmp_path / "kept.png", "--json"))
    assert [row["policy"] for row in result["results"]] == list(POLICIES)
    assert {row["samples"] for row in result["results"]} == {FACTS}
    assert [row["budget"] for row in result["results"]] == [1600, 100, 100, 100]


def test_a_bad_budget_is_refused(run: Run) -> None:
    assert "budget is 'half'" in error_line(run("demo", "--budget", "half"))


@pytest.fixture
def chat_tokenizer() -> Any:
    tokenizer = AutoTokenizer.from_pretrained(BUILTIN)
    tokenizer.chat_template = CHAT
    return tokenizer


@pytest.fixture
def chat_model(monkeypatch: pytest.MonkeyPatch, chat_tokenizer: Any) -> dict[str, Any]:
    """A tiny random chat model; the test may change what is loaded with it."""
    model = tiny_llama(vocab_size=len(chat_tokenizer), max_position_embeddings=8192)
    parts = {"tokenizer": chat_tokenizer, "heads": locret.RetainingHeads.from_config(model.config, width=16)}

    def load(*_: Any) -> tuple[Any, Any, Any]:
        return model, parts["tokenizer"], parts["heads"]

    monkeypatch.setattr("locret.cli.loading.load_model", load)
    return parts


def test_a_chat_model_answers_side_by_side(run: Run, tmp_path: Path, chat_model: dict[str, Any]) -> None:
    picture = tmp_path / "kept.png"
    shown = run("demo", "--model", "some/model", "--budget", 100, "--out", picture)
    assert shown.exit_code == 0, shown.stderr
    assert all(name in shown.stdout for name in ("full", "locret", "streaming_llm", "what locret kept"))
    asked = " ".join(shown.stdout.split())
    assert all(one.text.split()[-1] in asked for one in QUESTIONS)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_rows_of_a_chat_model_hold_its_answers(
    run: Run, tmp_path: Path, chat_model: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GuideQuestion, "right", lambda self, reply: self is QUESTIONS[0])
    result = only_json(run("demo", "--model", "some/model", "--budget", "1/8", "--out", tmp_path / "a.png", "--json"))
    tokens = len(Prompts.of(chat_model["tokenizer"], QUESTIONS).read)
    full, own, rival = result["results"]
    assert [row["policy"] for row in result["results"]] == ["full", "locret", "streaming_llm"]
    assert [row["budget"] for row in result["results"]] == [tokens, tokens // 8, tokens // 8]
    assert own["kv_bytes"] == rival["kv_bytes"] < full["kv_bytes"] / 5
    for row in result["results"]:
        assert row["length"] == tokens
        assert row["samples"] == len(row["answers"]) == len(QUESTIONS)
        assert row["score"] == pytest.approx(100 / len(QUESTIONS), abs=0.01)
        assert [answer["right"] for answer in row["answers"]] == [True] + [False] * (len(QUESTIONS) - 1)
        assert [answer["question"] for answer in row["answers"]] == [one.text for one in QUESTIONS]
        assert row["prefill_seconds"] > 0
        assert row["decode_seconds"] > 0
    model, tokenizer, _ = locret.cli.loading.load_model()
    message = {"role": "user", "content": f"{guide()}\n\n{QUESTIONS[0].text}"}
    chat = tokenizer.apply_chat_template([message], add_generation_prompt=True, return_tensors="pt")
    ids = model.generate(**chat, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)[0, chat["input_ids"].shape[1] :]
    expected = tokenizer.decode(ids, skip_special_tokens=True)
    assert full["answers"][0]["text"] == expected.partition("\n")[0].strip()


def test_without_heads_the_rivals_are_shown_and_it_says_so(
    run: Run, tmp_path: Path, chat_model: dict[str, Any]
) -> None:
    chat_model["heads"] = None
    shown = run("demo", "--model", "some/model", "--out", tmp_path / "a.png")
    assert shown.exit_code == 0, shown.stderr
    assert "locret itself is left out: no retaining heads came with this model; name some with --heads" in shown.stderr
    assert "what streaming_llm kept" in shown.stdout


def test_a_model_without_a_chat_template_is_refused(run: Run, tmp_path: Path, chat_model: dict[str, Any]) -> None:
    chat_model["tokenizer"].chat_template = None
    line = error_line(run("demo", "--model", "some/model", "--out", tmp_path / "a.png"))
    assert "model 'some/model' has no chat template" in line


@pytest.mark.parametrize("option", ["--length", "--seed"])
def test_options_of_the_hidden_facts_alone_are_bad_usage_elsewhere(run: Run, option: str) -> None:
    result = run("demo", "--model", "some/model", option, 7)
    assert result.exit_code == 2
    assert "are for the built-in model" in result.stderr


def test_every_answer_stands_in_the_guide_where_it_is_said_to(chat_tokenizer: Any) -> None:
    text = guide()
    prompts = Prompts.of(chat_tokenizer, QUESTIONS)
    for one, place, asked in zip(QUESTIONS, prompts.facts, prompts.asked, strict=True):
        assert text.count(one.fact) == 1
        sentence = text[text.index(one.fact) :].partition(". ")[0]
        assert one.right(sentence)
        assert one.right(text[: text.index(one.fact)]) is False
        assert one.fact.startswith(chat_tokenizer.decode(prompts.read[place : place + 1]).strip())
        message = {"role": "user", "content": f"{text}\n\n{one.text}"}
        chat = chat_tokenizer.apply_chat_template([message], add_generation_prompt=True)["input_ids"]
        assert [*prompts.read, *asked] == list(chat)


@pytest.mark.parametrize("name", ["folder", "device", "file/below.png"])
def test_a_picture_that_cannot_be_written_is_refused_before_the_reading(
    run: Run, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any) -> None:
        raise AssertionError("this should not be reached")

    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "device").symlink_to(os.devnull)
    monkeypatch.setattr("locret.cli.loading.load_model", load)
    assert name.partition("/")[0] in error_line(run("demo", "--out", tmp_path / name))
    assert (tmp_path / "device").is_symlink()


def test_a_demo_without_its_picture_has_failed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise LocretError("could not write it")

    monkeypatch.setattr("locret.eval.picture.save_picture", full)
    result = run("demo", "--length", 1600, "--budget", "1/4", "--out", tmp_path / "kept.png")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "locret: could not write it"
    assert "streaming_llm" in result.stdout  # what was worked out is not lost


def test_brackets_and_colons_in_a_name_are_no_markup(run: Run, tmp_path: Path) -> None:
    picture = tmp_path / "[red] :smile:" / "[" / "b] kept.png"
    result = run("demo", "--length", 1600, "--budget", "1/4", "--out", picture)
    assert result.exit_code == 0, result.stderr
    assert f"picture: {picture}" in result.stderr


def test_a_terminal_of_ascii_gets_a_strip_of_ascii(tmp_path: Path) -> None:
    written = BytesIO()
    stdout = TextIOWrapper(written, encoding="cp1252", write_through=True)
    with redirect_stdout(stdout):
        demo_command(length=1600, budget="1/4", out=tmp_path / "kept.png")
    stdout.flush()
    shown = written.getvalue().decode("cp1252")
    assert all(name in shown for name in POLICIES)
    assert "- one that was not" in shown


@pytest.mark.parametrize("columns", ["0", "1", "999999999"])
def test_a_terminal_of_any_width_is_drawn_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    shown = run("demo", "--length", 1600, "--budget", "1/4", "--out", tmp_path / "kept.png")
    assert shown.exit_code == 0, shown.stderr
    assert max(map(len, shown.stdout.splitlines())) <= 1000
