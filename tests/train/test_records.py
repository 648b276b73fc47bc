from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from locret.errors import LocretError
from locret.models.checkpoint import BUILTIN
from locret.models.tokens import beginning_of_text
from locret.train.forms import recognise
from locret.train.records import read_records
from locret.train.samples import SampleMaker

TOKENS = {"input_ids": [2, 3, 4, 5], "answer_spans": [[2, 4]]}

TURNS = {
    "sharegpt": {
        "conversations": [
            {"from": "human", "value": "w1 w2"},
            {"from": "gpt", "value": "w3"},
            {"from": "human", "value": "w4"},
            {"from": "gpt", "value": "w5 w6"},
        ]
    },
    "messages": {
        "messages": [
            {"role": "user", "content": "w1 w2"},
            {"role": "assistant", "content": "w3"},
            {"role": "user", "content": "w4"},
            {"role": "assistant", "content": "w5 w6"},
        ]
    },
    "questions": {
        "context": "w1 w2 ",
        "questions": [{"question": " ", "answer": "w3"}, {"question": "w4", "answer": "w5 w6"}],
    },
}


def words(ids: list[int]) -> list[int]:
    """Numbers of the words w0, w1, ..."""
    return [i - 2 for i in ids]


@pytest.mark.parametrize("form", TURNS)
def test_several_questions_on_one_context(form: str, tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = recognise(TURNS[form]).encode(tokenizer)
    assert words(encoded.ids) == [1, 2, 3, 4, 5, 6]
    assert encoded.spans == [(2, 3), (4, 6)]
    assert encoded.context == 2


def test_prompt_and_answer_and_instructions(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = recognise({"prompt": "w1 w2", "answer": "w3"}).encode(tokenizer)
    assert (words(encoded.ids), encoded.spans) == ([1, 2, 3], [(2, 3)])
    alpaca = {"instruction": "w1", "input": "w2", "output": "w3", "file": "x"}
    assert recognise(alpaca).encode(tokenizer) == encoded


def test_the_chat_template_is_used(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{{ 'w9 ' if m.role == 'user' else 'w8 ' }}{{ m.content }} w7 "
        "{% endfor %}{% if add_generation_prompt %}w8 {% endif %}"
    )
    encoded = recognise(TURNS["sharegpt"]).encode(tokenizer)
    assert words(encoded.ids) == [9, 1, 2, 7, 8, 3, 7, 9, 4, 7, 8, 5, 6, 7]
    assert encoded.spans == [(5, 7), (11, 14)]  # what the model has to say, its end of turn too


def test_a_template_that_rewrites_history_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = "{{ messages | length }} {{ messages[-1].content }}"
    with pytest.raises(LocretError, match="chat template rewrites earlier turns"):
        recognise(TURNS["sharegpt"]).encode(tokenizer)


def test_a_template_that_refuses_a_record_says_why(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = "{{ raise_exception('system role not supported') }}"
    with pytest.raises(LocretError, match=r"the chat template refuses the message \(system role not supported\)"):
        recognise(TURNS["sharegpt"]).encode(tokenizer)


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
REFUSES = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML


def chat_tokenizer(template: str) -> Any:
    """The built-in model's, which merges across words and lines."""
    tokenizer = AutoTokenizer.from_pretrained(BUILTIN)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = template
    return tokenizer


SAID = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "The key is 12, the\n\nlock is 7. What is the key?"},
    {"role": "assistant", "content": " 12."},
    {"role": "user", "content": "And the lock?  "},
    {"role": "assistant", "content": "7"},
]


def test_a_chats_ids_are_those_of_the_whole_chat() -> None:
    tokenizer = chat_tokenizer(CHATML)
    encoded = recognise({"messages": SAID}).encode(tokenizer)
    assert encoded.ids == tokenizer.apply_chat_template(SAID, return_dict=False)
    answers = [tokenizer.decode(encoded.ids[start:end]) for start, end in encoded.spans]
    assert answers == [" 12.<|im_end|>\n", "7<|im_end|>\n"]
    asked = tokenizer.apply_chat_template(SAID[:2], add_generation_prompt=True, return_dict=False)
    assert encoded.ids[: encoded.context] == asked  # as the model will be asked


def test_names_of_control_tokens_in_a_record_are_text_but_in_a_prompt_that_is_given_whole() -> None:
    tokenizer = chat_tokenizer(CHATML)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    tricky = [{**said, "content": f"{said['content']} a <|im_end|> b"} for said in SAID]
    encoded = recognise({"messages": tricky}).encode(tokenizer)
    assert encoded.ids.count(end) == len(SAID)  # the template's own
    assert tokenizer.decode(encoded.ids) == tokenizer.apply_chat_template(tricky, tokenize=False)
    first, last = (tokenizer.decode(encoded.ids[start:stop]) for start, stop in encoded.spans)
    assert (first, last) == (" 12. a <|im_end|> b<|im_end|>\n", "7 a <|im_end|> b<|im_end|>\n")
    told = {"context": "a <|im_end|> b ", "questions": [{"question": "<|im_end|>?", "answer": "<|im_end|>"}] * 2}
    assert end not in recognise(told).encode(tokenizer).ids
    assert end not in recognise({"instruction": "<|im_end|>", "output": "<|im_end|>"}).encode(tokenizer).ids
    given = {"prompt": "<|im_start|>user\nWhy?<|im_end|>\n", "answer": "So.<|im_end|>"}
    assert recognise(given).encode(tokenizer).ids.count(end) == 2


def test_context_and_question_are_tokenised_at_once() -> None:
    tokenizer = chat_tokenizer(CHATML)
    context, question = "The key is 12. What is th", "e key?"
    encoded = recognise({"context": context, "questions": [{"question": question, "answer": " 12"}]}).encode(tokenizer)
    whole = tokenizer(context + question)["input_ids"]
    apart = [*tokenizer(context)["input_ids"], *tokenizer(question, add_special_tokens=False)["input_ids"]]
    assert whole != apart
    [(start, _)] = encoded.spans
    assert encoded.ids[:start] == whole
    assert context.startswith(tokenizer.decode(whole[1 : encoded.context]))


def test_what_a_system_says_goes_into_the_first_turn_where_the_template_takes_no_systems() -> None:
    refusing = chat_tokenizer(REFUSES)
    folded = [{"role": "user", "content": f"Be brief.\n\n{SAID[1]['content']}"}, *SAID[2:]]
    encoded = recognise({"messages": SAID}).encode(refusing)
    assert encoded == recognise({"messages": folded}).encode(chat_tokenizer(CHATML))


def test_the_beginning_of_text_leads(tokenizer: PreTrainedTokenizerFast) -> None:
    assert beginning_of_text(tokenizer) == []
    tokenizer.backend_tokenizer.post_processor = _adds_beginning()
    encoded = recognise({"prompt": "w1", "answer": "w2"}).encode(tokenizer)
    assert (encoded.ids, encoded.spans) == ([0, 3, 4], [(2, 3)])


def _adds_beginning() -> Any:
    from tokenizers.processors import TemplateProcessing

    return TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])


BAD = [
    ("{", "Expecting property name"),
    ("[1]", "none of the keys conversations"),
    ({"text": "a"}, "none of the keys conversations"),
    ({"prompt": "a"}, "`answer` is missing"),
    ({"prompt": "", "answer": "b"}, "`prompt` is missing, empty"),
    ({"conversations": []}, "`conversations` is missing, empty"),
    ({"conversations": ["a"]}, "a turn is not an object"),
    ({"conversations": [{"from": "gpt", "value": "a"}] * 2}, "do not alternate"),
    ({"conversations": [{"from": "human", "value": "a"}]}, "needs a gpt turn"),
    ({"context": "a", "questions": ["q"]}, "entry of `questions` is not an object"),
    ({"input_ids": [1, "2"], "answer_spans": [[1, 2]]}, "not a list of token ids"),
    ({"input_ids": [1, 2], "answer_spans": [[0, 1]]}, r"answer span \[0, 1\]"),
    ({"input_ids": [1, 2], "answer_spans": [[1, 3]]}, r"within 1..2"),
]


@pytest.mark.parametrize(("record", "message"), BAD)
def test_bad_records_name_file_and_line(record: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    text = record if isinstance(record, str) else json.dumps(record)
    path.write_text(f"{json.dumps(TOKENS)}\n\n{text}\n", encoding="utf-8")
    with pytest.raises(LocretError, match=rf"bad.jsonl:3: .*{message}"):
        read_records([path])


def test_plain_gzipped_and_listed_files_are_the_same_data(tmp_path: Path) -> None:
    records = [{"prompt": "a", "answer": "b"}, {"prompt": "c", "answer": "d"}]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "b.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "c.json").write_text(json.dumps(records, indent=1))
    read = [read_records([tmp_path / name]) for name in ("a.jsonl", "b.gz", "c.json")]
    assert len({one.fingerprint for one in read}) == 1
    assert all([r.content for r in one.items] == [r.content for r in read[0].items] for one in read)
    assert read[1].items[1].place.endswith("b.gz:2")
    assert read[2].items[1].place.endswith("c.json, record 2")
    both = read_records([tmp_path / "a.jsonl", tmp_path / "b.gz"])
    assert len(both.items) == 4
    assert both.fingerprint != read[0].fingerprint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no training record"),
        (b"\xff\xfe{", "not UTF-8"),
        (gzip.compress(b"\n" * 99, mtime=0)[:-9], "cannot read .*damaged .gz file"),
        (b"[{]", "neither JSON lines nor one JSON list"),
    ],
    ids=["empty", "binary", "cut short", "broken list"],
)
def test_unreadable_files(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(content)
    with pytest.raises(LocretError, match=message):
        read_records([tmp_path / "data"])


@pytest.mark.parametrize("name", ["missing.jsonl", "a/b/c", "a/missing.jsonl"])
def test_missing_files(name: str) -> None:
    with pytest.raises(LocretError, match=f"'{name}' not found"):
        read_records([name])


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(LocretError, match="is a folder"):
        read_records([tmp_path])


def test_unknown_tokens_name_the_record(tmp_path: Path) -> None:
    path = tmp_path / "big.jsonl"
    path.write_text(json.dumps({"input_ids": [1, 500], "answer_spans": [[1, 2]]}))
    records = read_records([path])
    with pytest.raises(LocretError, match=r"big.jsonl:1: .*token 500 is unknown"):
        SampleMaker(None, 64, 97)(records.items[0])
