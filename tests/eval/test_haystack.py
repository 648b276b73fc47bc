"""Haystacks: length, seeds, depths, and where the needles are, with two kinds of tokenizer."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import locret
from locret.errors import LocretError
from locret.eval.haystack import Filler, build_context, prompt_ids, question_ids
from locret.eval.needles import draw_needles
from tests.eval.models import byte_tokenizer


def character_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character, and no BOS: as unlike the built-in one as can be."""
    characters = sorted({chr(code) for code in range(32, 127)} | {"\n", "?"})
    vocabulary = {character: i for i, character in enumerate(characters)} | {"<unk>": len(characters)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


@pytest.fixture(scope="module", params=["builtin", "characters"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    if request.param == "characters":
        return character_tokenizer()
    return AutoTokenizer.from_pretrained(Path(locret.__file__).parent / "builtin")


@pytest.fixture(scope="module")
def filler() -> Filler:
    return Filler.python_reference()


def find(ids: tuple[int, ...], part: list[int]) -> list[int]:
    return [i for i in range(len(ids)) if list(ids[i : i + len(part)]) == part]


@pytest.mark.parametrize(("kind", "count", "decoys"), [("magic", 8, 0), ("mix", 16, 3), ("passkey", 1, 16)])
def test_length_and_positions(tokenizer: Any, filler: Filler, kind: str, count: int, decoys: int) -> None:
    context = build_context(tokenizer, filler, kind, 2000, count, random.Random(5), decoys=decoys)
    assert len(context.document_ids) == 2000
    assert len(context.needles) == len(context.positions) == count
    assert len(context.decoys) == decoys
    for needle, position in zip(context.needles, context.positions, strict=True):
        sentence = tokenizer(" " + needle.sentence, add_special_tokens=False)["input_ids"]
        assert position in find(context.document_ids, sentence)
        assert needle.sentence in context.document
    assert all(decoy in context.document for decoy in context.decoys)


def test_same_seed_same_context(tokenizer: Any, filler: Filler) -> None:
    first, again, other = (build_context(tokenizer, filler, "word", 1024, 8, random.Random(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first.document_ids != other.document_ids


def test_depths(tokenizer: Any, filler: Filler) -> None:
    depths = (0.0, 0.5, 1.0)
    context = build_context(tokenizer, filler, "magic", 4000, 3, random.Random(0), depths=depths)
    assert context.positions[0] <= 1
    assert abs(context.positions[1] - 2000) < 120
    assert context.document.endswith(context.needles[2].sentence)


def test_filler_wraps_round(tokenizer: Any) -> None:
    short = Filler("One two three. Four five six! Seven eight nine?")
    context = build_context(tokenizer, short, "entry", 600, 2, random.Random(0))
    assert len(context.document_ids) == 600
    assert "Seven eight nine? One two three." in context.document


def test_prompt(tokenizer: Any, filler: Filler) -> None:
    context = build_context(tokenizer, filler, "magic", 512, 2, random.Random(3))
    needle = context.needles[1]
    ids = prompt_ids(tokenizer, context, needle)
    assert ids == [*context.document_ids, *question_ids(tokenizer, needle)]
    first = tokenizer.decode(prompt_ids(tokenizer, context, needle, question_first=True), skip_special_tokens=True)
    assert first.startswith(needle.asked + "\n")
    assert first.endswith("\n" + needle.question)


def test_errors(tokenizer: Any, filler: Filler, tmp_path: Path) -> None:
    with pytest.raises(LocretError, match="too few for the needles"):
        build_context(tokenizer, filler, "magic", 30, 8, random.Random(0))
    with pytest.raises(LocretError, match="2 needles need 2 depths"):
        build_context(tokenizer, filler, "magic", 500, 2, random.Random(0), depths=[0.5])
    with pytest.raises(LocretError, match="no text"):
        Filler(" \n")


def test_filler_files(tmp_path: Path) -> None:
    plain = tmp_path / "plain.txt"
    plain.write_text("A sentence. Another one.", encoding="utf-8")
    packed = tmp_path / "books.jsonl.gz"
    packed.write_bytes(gzip.compress("\n".join(json.dumps({"text": t}) for t in ("A a.", "B b.")).encode()))
    assert Filler.from_file(plain).pieces == (" A sentence.", " Another one.")
    assert Filler.from_file(packed).pieces == (" A a.", " B b.")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("picture.png", b"\x89PNG\xff\xfe", "is not text: byte 0x89 at offset 0"),
        ("broken.txt.gz", b"\x1f\x8bnot gzip", "damaged .gz file"),
        ("rows.jsonl", b'{"body": 1}', "line 1 has no field 'text'"),
        ("list.jsonl", b"[1]", "line 1 is no JSON object"),
    ],
)
def test_files_that_are_not_text(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(LocretError, match=message):
        Filler.from_file(path)
    with pytest.raises(LocretError, match="cannot read"):
        Filler.from_file(tmp_path / "missing.txt")


@pytest.mark.parametrize("begins", [False, True])
def test_names_of_control_tokens_in_a_filler_are_text(begins: bool) -> None:
    tokenizer = byte_tokenizer(begins)
    filler = Filler("A page ends with </s> and begins with <s> wherever it is printed.")
    context = build_context(tokenizer, filler, "magic", 600, 2, random.Random(0))
    assert tokenizer.eos_token_id not in context.document_ids
    assert context.document_ids.count(tokenizer.bos_token_id) == begins
    assert " ends with </s> and begins with <s> " in context.document


def test_needles_are_the_drawn_ones(tokenizer: Any, filler: Filler) -> None:
    context = build_context(tokenizer, filler, "city", 900, 4, random.Random(9))
    assert list(context.needles) == draw_needles("city", 4, random.Random(9))
