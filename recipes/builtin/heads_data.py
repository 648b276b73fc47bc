"""Training data of the built-in model's retaining heads: needles in text, many questions a context.

Only trained templates and keys, and only training text. The output is what `locret train --data`
takes: JSON lines with a ``context`` and its ``questions``. The questions have the form in which
evaluation asks them, each behind the full stop of the answer before it.

Run ``python -m recipes.builtin.heads_data --help``.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from locret.eval.haystack import EncodedFiller, Filler, hide, plain_ids
from locret.eval.needles import Needle, draw_decoys, draw_from, draw_needles, templates
from locret.files import write_text_whole
from recipes.builtin.data import KIND_WEIGHTS, OTHER_WEIGHT, PASSKEY_SHARE, made_up, syllables
from recipes.builtin.text import training_texts
from recipes.builtin.tokenizer import BUILTIN

QUESTIONS = (8, 16)
DECOYS = (0, 16)
ONE_KIND_SHARE = 0.5
TEXT_PER_TOKEN = 8  # characters of filler to choose from, for each token that is wanted


@dataclass(frozen=True)
class ContextMaker:
    """Makes training records; the same ``rng`` state gives the same record."""

    tokenizer: Any
    filler: EncodedFiller
    length: int
    rng: random.Random
    parts: list[str]

    def record(self) -> dict[str, Any]:
        """A context of ``length`` tokens and a question for every needle in it."""
        needles = self._needles(self.rng.randint(*QUESTIONS))
        decoys = draw_decoys(self.rng.randint(*DECOYS), self.rng)
        sentences = [*(needle.sentence for needle in needles), *decoys]
        hidden = [plain_ids(self.tokenizer, f" {sentence}") for sentence in sentences]
        depths = [self.rng.random() for _ in hidden]
        ids, _ = hide(self.filler, hidden, depths, self.length - 1, self.rng)  # 1: the BOS token
        questions = [
            {"question": f"{'.' if i else ''}\n{needle.question}", "answer": needle.answer}
            for i, needle in enumerate(needles)
        ]
        return {"context": self.tokenizer.decode(ids), "questions": questions}

    def _needles(self, count: int) -> list[Needle]:
        """Needles of one kind or of several, often with a pass key among them, in random order."""
        rng = self.rng
        needles = draw_needles("passkey", 1, rng) if rng.random() < PASSKEY_SHARE else []
        pool = [t for t in templates() if t.trained and t.key != "none"]
        weights = [KIND_WEIGHTS.get(template.name, OTHER_WEIGHT) for template in pool]
        if rng.random() < ONE_KIND_SHARE:
            pool, weights = rng.choices(pool, weights), [1.0]
        needles += draw_from(lambda: rng.choices(pool, weights)[0], count - len(needles), rng)
        rng.shuffle(needles)
        return [made_up(needle, self.parts, rng) for needle in needles]


def filler_text(texts: list[str], characters: int, rng: random.Random) -> str:
    """At most ``characters`` of text: half of it docstrings, half random stretches of every book.

    Docstrings are short beside the books, but needles are harder to tell from them, with all their names.
    """
    docstrings, *books = texts
    half = min(len(docstrings), characters // 2 if books else characters)
    share = -(-half // len(books)) if books else 0
    chosen = [(docstrings, half), *((book, share) for book in books)]
    starts = [rng.randrange(max(1, len(text) - size)) for text, size in chosen]
    return "\n".join(text[i : i + size] for (text, size), i in zip(chosen, starts, strict=True))


def records(tokenizer: Any, texts: list[str], contexts: int, length: int, seed: int) -> Iterator[dict[str, Any]]:
    """``contexts`` training records."""
    rng = random.Random(seed)
    text = filler_text(texts, contexts * length * TEXT_PER_TOKEN, rng)
    maker = ContextMaker(tokenizer, Filler(text).encode(tokenizer), length, rng, syllables(tokenizer))
    for _ in range(contexts):
        yield maker.record()


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the JSONL file to write")
    parser.add_argument("--contexts", type=int, default=300, help="number of records")
    parser.add_argument("--length", type=int, default=2048, help="tokens of a context")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--books", type=Path, help="a .jsonl.gz file with books for the filler")
    parser.add_argument("--tokenizer", type=Path, default=BUILTIN)
    arguments = parser.parse_args()
    made = records(
        AutoTokenizer.from_pretrained(arguments.tokenizer),
        training_texts(arguments.books),
        arguments.contexts,
        arguments.length,
        arguments.seed,
    )
    write_text_whole(arguments.out, "".join(f"{json.dumps(record)}\n" for record in made))


if __name__ == "__main__":
    main()
