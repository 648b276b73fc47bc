"""Training data of SmolLM2's retaining heads: chat-formatted, four kinds of what is wanted of a document.

- facts: sentences hidden in a book's text, asked for in several turns, with a passage to repeat among them;
- repeat: passages to be said again word for word;
- questions: real documents with real questions (L-Eval, LooGLE), cut to the part that holds the answer;
- text: the text goes on.

Books are those of `books_train`; evaluation reads other books (`books_valid`) and WikiText-2. The output is what
`locret train --data` takes. Run ``python -m recipes.smollm2.data --help``.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locret.files import write_text_whole
from locret.models.checkpoint import load_tokenizer
from recipes.smollm2.facts import draw_facts

SHARED = Path(__file__).parents[3] / "shared" / "data"
SHARES = {"facts": 0.45, "repeat": 0.1, "questions": 0.15, "text": 0.3}
CHARACTERS = (1800, 4800)  # of a document: about 450 to 1200 tokens
PASSAGE_WORDS = (30, 90)
CONTINUED = 400  # characters that a text goes on for
NAMED_BY = 6  # words that tell which passage is meant
QUESTIONS_OF = ("quality", "natural_question", "legal_contract_qa", "meeting_summ", "scientific_qa", "coursera")
ASKED_AT_MOST = 4
FACTS = (6, 14)
RECORDS = 1200

Message = dict[str, str]


@dataclass(frozen=True)
class Maker:
    """Makes records; the same state of `rng` gives the same record.

    Attributes:
        books: texts of books.
        documents: real documents with questions: (text, [(question, answer)]).
        tokenizer: of the model, for the texts that go on.
        rng: what is drawn.
    """

    books: list[str]
    documents: list[tuple[str, list[tuple[str, str]]]]
    tokenizer: Any
    rng: random.Random

    def record(self) -> dict[str, Any]:
        """A record of a kind drawn by `SHARES`."""
        kind = self.rng.choices(list(SHARES), list(SHARES.values()))[0]
        made: dict[str, Any] = getattr(self, f"_{kind}")()
        return {"kind": kind, **made}

    def _stretch(self, characters: int) -> str:
        """Text of a book from one line to another."""
        book = self.rng.choice(self.books)
        begin = self.rng.randrange(len(book) - characters - 1)
        begin = book.find(" ", begin) + 1
        return book[begin : begin + characters].rsplit(" ", 1)[0]

    def _facts(self) -> dict[str, Any]:
        rng = self.rng
        facts = draw_facts(rng.randint(*FACTS), rng)
        pieces = self._stretch(rng.randint(*CHARACTERS)).split(". ")
        for fact in facts:
            pieces.insert(rng.randint(1, len(pieces)), fact.sentence.removesuffix("."))
        text = ". ".join(pieces)
        rng.shuffle(facts)
        turns = [(fact.question, fact.answer) for fact in facts]
        if rng.random() < 0.3:
            turns.insert(rng.randint(0, len(turns)), self._passage(text))
        return _chat(text, turns)

    def _passage(self, text: str) -> tuple[str, str]:
        """A passage of the text to be repeated, named by its first words."""
        words = text.split(" ")
        count = min(self.rng.randint(*PASSAGE_WORDS), len(words) // 2)
        begin = self.rng.randrange(len(words) - count)
        passage = words[begin : begin + count]
        named = " ".join(passage[:NAMED_BY])
        return f'Repeat the passage of the text that begins with "{named}".', " ".join(passage)

    def _repeat(self) -> dict[str, Any]:
        text = self._stretch(self.rng.randint(*CHARACTERS))
        return _chat(text, [self._passage(text) for _ in range(self.rng.randint(2, 4))])

    def _questions(self) -> dict[str, Any]:
        text, pairs = self.rng.choice(self.documents)
        characters = self.rng.randint(*CHARACTERS)
        at = text.find(self.rng.choice(pairs)[1])  # -1 where the answer is no quotation: the text's beginning
        begin = max(0, at - self.rng.randrange(characters)) if at >= 0 else 0
        part = text[begin : begin + characters]
        inside = [pair for pair in pairs if pair[1] in part] or self.rng.sample(pairs, min(2, len(pairs)))
        self.rng.shuffle(inside)
        return _chat(part, inside[:ASKED_AT_MOST])

    def _text(self) -> dict[str, Any]:
        """The text goes on within the user's turn."""
        text = self._stretch(self.rng.randint(*CHARACTERS) + CONTINUED)
        message = [{"role": "user", "content": text}]
        opened = self.tokenizer.apply_chat_template(message, tokenize=False)
        opened = opened[: opened.index(text) + len(text)]
        encoded = self.tokenizer(opened, add_special_tokens=False, return_offsets_mapping=True)
        border = len(opened) - CONTINUED
        first = next(i for i, (begin, _) in enumerate(encoded["offset_mapping"]) if begin >= border)
        return {"input_ids": encoded["input_ids"], "answer_spans": [[first, len(encoded["input_ids"])]]}


def _chat(text: str, turns: list[tuple[str, str]]) -> dict[str, Any]:
    messages: list[Message] = []
    for i, (question, answer) in enumerate(turns):
        messages.append({"role": "user", "content": question if i else f"{text}\n\n{question}"})
        messages.append({"role": "assistant", "content": answer})
    return {"messages": messages}


def read_books(name: str = "books_train") -> list[str]:
    """Texts of the books of a file in the shared data."""
    return [record["text"] for record in _records(SHARED / "text" / f"{name}.jsonl.gz")]


def read_documents() -> list[tuple[str, list[tuple[str, str]]]]:
    """Real documents with their questions and answers."""
    found = []
    for name in QUESTIONS_OF:
        for record in _records(SHARED / "qa" / "leval" / f"{name}.jsonl.gz"):
            pairs = zip(record["instructions"], record["outputs"], strict=True)
            found.append((record["input"], [pair for pair in pairs if all(pair)]))
    for record in _records(SHARED / "qa" / "loogle_shortdep_qa.jsonl.gz"):
        pairs = [(pair["Q"], pair["A"]) for pair in _literal(record["qa_pairs"])]
        found.append((record["input"], pairs))
    return [(text, pairs) for text, pairs in found if pairs]


def _literal(text: str) -> list[dict[str, str]]:
    value: list[dict[str, str]] = ast.literal_eval(text)
    return value


def _records(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def make(tokenizer: Any, count: int, seed: int) -> list[dict[str, Any]]:
    """`count` records."""
    maker = Maker(read_books(), read_documents(), tokenizer, random.Random(f"smollm2 heads {seed}"))
    return [maker.record() for _ in range(count)]


def write_data(out: Path, model: str, count: int = RECORDS, seed: int = 0) -> None:
    """Write `count` records as JSON lines."""
    records = make(load_tokenizer(model), count, seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text_whole(out, "".join(json.dumps(record) + "\n" for record in records))


def main() -> None:
    """Write the data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--count", type=int, default=RECORDS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/smollm2/train.jsonl"))
    arguments = parser.parse_args()
    write_data(arguments.out, arguments.model, arguments.count, arguments.seed)


if __name__ == "__main__":
    main()
