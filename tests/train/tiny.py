from __future__ import annotations

import json
import random
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

WORDS = ["<s>", "<unk>", *(f"w{i}" for i in range(95))]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word `w0` to `w94`; no beginning of text is added."""
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>")


def token_records(count: int, seed: int = 0, length: int = 40) -> list[dict[str, object]]:
    """Records of random tokens with two answers each."""
    rng = random.Random(seed)
    records: list[dict[str, object]] = []
    for _ in range(count):
        ids = [rng.randrange(2, 97) for _ in range(length + rng.randrange(8))]
        records.append({"input_ids": ids, "answer_spans": [[30, 33], [35, 38]]})
    return records


def write_lines(path: Path, records: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path
