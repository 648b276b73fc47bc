"""The recipe for the built-in heads' data: what it writes is what `locret train` reads."""

from __future__ import annotations

import json
import random
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from locret.eval.needles import is_held_out, templates
from locret.train.records import read_records
from locret.train.samples import SampleMaker
from recipes.builtin.heads_data import QUESTIONS, filler_text, records
from recipes.builtin.tokenizer import BUILTIN

TEXT = ["The heap queue keeps its smallest item first. " * 300, "A module for reading files. " * 300]
LENGTH = 1024


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(BUILTIN)


@pytest.fixture(scope="module")
def made(tokenizer: Any) -> list[dict[str, Any]]:
    return list(records(tokenizer, TEXT, contexts=12, length=LENGTH, seed=1))


def test_every_question_has_its_answer_in_the_context(made: list[dict[str, Any]]) -> None:
    for record in made:
        assert QUESTIONS[0] <= len(record["questions"]) <= QUESTIONS[1]
        for entry in record["questions"]:
            sentence = entry["question"].partition(" Answer: ")[2] + entry["answer"]
            assert sentence[1:] in record["context"]


def test_only_trained_templates_and_keys(made: list[dict[str, Any]]) -> None:
    text = json.dumps(made)
    for template in templates():
        asked = template.asked.partition("{key}")[0]
        if not template.trained and asked:
            assert asked not in text
    names = [entry["question"].rpartition("number for ")[2] for r in made for entry in r["questions"]]
    keys = [name.removesuffix(" is") for name in names if name.endswith(" is") and " " not in name[:-3]]
    assert keys
    assert not any(map(is_held_out, keys))


def test_the_seed_decides(tokenizer: Any, made: list[dict[str, Any]]) -> None:
    assert list(islice(records(tokenizer, TEXT, 12, LENGTH, seed=1), 3)) == made[:3]
    assert next(records(tokenizer, TEXT, 12, LENGTH, seed=2)) != made[0]


def test_training_reads_it(tokenizer: Any, made: list[dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in made))
    make_sample = SampleMaker(tokenizer, 4096, len(tokenizer))
    for record, origin in zip(read_records([path]).items, made, strict=True):
        sample = make_sample(record)
        assert sample.input_ids[0] == tokenizer.bos_token_id
        assert LENGTH - 8 < sample.prompt_length < LENGTH + 64  # context and first question
        answers = tokenizer.decode(sample.input_ids[sample.answer])
        assert answers == "".join(entry["answer"] for entry in origin["questions"])


def test_half_of_the_filler_is_docstrings_and_the_rest_is_from_every_book() -> None:
    text = filler_text(["a" * 1000, "b" * 10, "c" * 1000], 300, random.Random(0))
    assert [text.count(letter) for letter in "abc"] == [150, 10, 75]
