"""The exhibit: every one-pass policy on SmolLM2-135M-Instruct, by distance to the model's own full attention.

A document is read once with every contestant at every budget, and the continuations of all three tasks are forced on
what is kept (`locret.eval.fidelity`), so that the contestants are compared document by document. A line of the results
is one document, contestant and budget; a run that is started again goes on from the lines that are there.

Run ``python -m recipes.smollm2.exhibit --help``; `exhibit.json` says what is compared.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from locret.cache.budget import Budget
from locret.cli.budget import SMOLLM2, newest_of
from locret.cli.common import quiet_libraries
from locret.engine import Engine, Session
from locret.eval.fidelity import Continuation, ForcedPassage, build_passage, distances, measured_logits
from locret.eval.grid import parse_budget, size_of
from locret.eval.haystack import Filler
from locret.eval.lines import LineFile
from locret.eval.planning import Shard, parse_shard
from locret.interop.press_policy import PressPolicy
from locret.models.heads import RetainingHeads
from locret.models.loading import load_model
from locret.policies import Policy, get_policy
from recipes.smollm2.data import read_books
from recipes.smollm2.oracle import oracle

HERE = Path(__file__).parent
CONFIG = json.loads((HERE / "exhibit.json").read_text(encoding="utf-8"))
LINES = HERE / "results" / "exhibit.jsonl.gz"  # of all runs so far (`tables --runs` gathers them)
ORACLE, PRESS = "oracle", "kvpress:"


@dataclass(frozen=True, slots=True)
class Entry:
    """One reading of one document: what is compared, how much it keeps, and how many units at both ends are pinned."""

    length: int
    document: int
    contestant: str
    budget: str
    pins: tuple[int, int]

    @property
    def size(self) -> int:
        """Units a KV head."""
        return size_of(parse_budget(self.budget), self.length)

    def as_json(self) -> dict[str, Any]:
        """The fields of a line that say which one it is."""
        return {
            "length": self.length, "document": self.document, "contestant": self.contestant, "budget": self.budget,
            "pin_first": self.pins[0], "pin_newest": self.pins[1],
        }  # fmt: skip


def pins_of(pinned: bool, length: int, budget: str) -> tuple[int, int]:
    """Units at both ends that stay: as `--model smollm2` pins them, or none."""
    return (SMOLLM2.pin_first, newest_of(size_of(parse_budget(budget), length))) if pinned else (0, 0)


def entries(part: Mapping[str, Any]) -> Iterator[Entry]:
    """What a part of the exhibit reads, document by document."""
    for document in range(part["documents"]):
        for contestant in part["contestants"]:
            for budget in part["budgets"]:
                pins = pins_of(part["pinned"], part["length"], budget)
                yield Entry(part["length"], document, contestant, budget, pins)


@dataclass
class Exhibit:
    """Reads documents with every contestant; what full attention says of the latest document is kept.

    Attributes:
        model, tokenizer: SmolLM2.
        filler: the text of the documents.
        heads: retaining heads, one set a training seed.
    """

    model: Any
    tokenizer: Any
    filler: Filler
    heads: list[str]

    def __post_init__(self) -> None:
        self._latest: tuple[tuple[int, int], Document] | None = None

    def measure(self, entry: Entry) -> dict[str, Any]:
        """The line of an entry: per task tokens, and means of kl, agreement and nll over them."""
        document = self._document(entry.length, entry.document)
        told = {}
        for one in document.passage.continuations.values():
            logits = self._forced(entry, document, one)
            measured = distances(logits, document.full[one.name], one.targets)
            told[one.name] = {
                "tokens": len(one.targets),
                "kl": round(float(measured.kl.mean()), 6),
                "agreement": round(float(measured.agreement.mean()), 6),
                "nll": round(float(measured.nll.mean()), 6),
                "full_nll": round(float(measured.full_nll.mean()), 6),
            }
        return {**entry.as_json(), **told}

    def _document(self, length: int, index: int) -> Document:
        if self._latest is None or self._latest[0] != (length, index):
            passage = build_passage(self.tokenizer, self.filler, length, index, chat=True)
            self._latest = (length, index), Document(self, passage, len(passage.ids) - length)
        return self._latest[1]

    def _forced(self, entry: Entry, document: Document, one: Continuation) -> Tensor:
        """The measured rows [measured, vocab] of a contestant; its reading is made once for all continuations."""
        if document.read is None or document.read[0] != entry:
            document.read = entry, self._read(entry, document)
        return measured_logits(document.read[1](one.ids), one)

    def _read(self, entry: Entry, document: Document) -> Any:
        budget = Budget(
            size=entry.size,
            chunk=CONFIG["chunk"],
            local=CONFIG["local"],
            pin_first=entry.pins[0],
            pin_newest=entry.pins[1],
        )
        if entry.contestant.startswith(PRESS):
            press = PressPolicy(entry.contestant.removeprefix(PRESS))
            reading = press.open_reading(self.model, self.tokenizer, budget)
            read = reading.read(document.passage.ids, lambda done, total: None)
            return lambda ids: reading.score(read, ids)
        engine = Engine(self.model, self.tokenizer, policy=self._policy(entry.contestant, document), budget=budget)
        session = engine.prefill(document.passage.ids)
        return lambda ids: engine.score_pieces(session, ids)

    def _policy(self, contestant: str, document: Document) -> Policy:
        if contestant == ORACLE:
            return document.oracle
        name, _, seed = contestant.partition(":")
        return get_policy(name, heads=self._loaded[int(seed)]) if seed else get_policy(name)

    @cached_property
    def _loaded(self) -> dict[int, RetainingHeads]:
        there = {seed: folder for seed, folder in enumerate(self.heads) if (Path(folder) / "heads.json").is_file()}
        return {seed: RetainingHeads.from_pretrained(folder) for seed, folder in there.items()}


class Document:
    """A document with what full attention predicts on it.

    Attributes:
        passage: the document and its continuations.
        full: full attention's measured rows [measured, vocab] a task.
        read: the latest reading by a contestant.
    """

    def __init__(self, exhibit: Exhibit, passage: ForcedPassage, head: int) -> None:
        self._exhibit, self._head, self.passage = exhibit, head, passage
        self.read: tuple[Entry, Any] | None = None
        budget = Budget(size=len(passage.ids), chunk=CONFIG["chunk"])
        engine = Engine(exhibit.model, exhibit.tokenizer, policy=get_policy("full"), budget=budget)
        session: Session = engine.prefill(passage.ids)
        self.full = {
            name: measured_logits(engine.score_pieces(session, one.ids), one)
            for name, one in passage.continuations.items()
        }

    @cached_property
    def oracle(self) -> Policy:
        """Scores by a second pass over the document."""
        return oracle(self._exhibit.model, self._exhibit.tokenizer, self.passage.ids, self._head)


def run(
    parts: list[str], only: list[str], shard: Shard, out: Path, model: str, heads: list[str], console: Console
) -> None:
    """Read what no line is there for, by the contestants in `only` or by all; shards share out the documents."""
    loaded, tokenizer, _ = load_model(model, "float32", "cpu")
    exhibit = Exhibit(loaded, tokenizer, Filler("\n\n".join(read_books(CONFIG["filler"]))), heads)
    out.mkdir(parents=True, exist_ok=True)
    name = "-".join([f"exhibit-{shard.index}-of-{shard.count}", *only]).replace(":", "")  # a file for each process
    file = LineFile(out / f"{name}.jsonl")
    earlier = [path for path in (LINES, *out.glob("exhibit-*.jsonl")) if path.exists()]
    done = {key(line) for path in earlier for line in read_lines(path)}
    for name in parts:
        mine = [one for one in entries(CONFIG["parts"][name]) if one.document % shard.count == shard.index]
        wanted = [one for one in mine if not only or one.contestant in only]
        left = [one for one in wanted if key(one.as_json()) not in done]
        console.print(f"{name}: {len(left)} of {len(wanted)} readings to do")
        for number, entry in enumerate(left):
            file.append({"part": name, **exhibit.measure(entry)})
            if number % 20 == 0:
                console.print(f"{name}: {number} of {len(left)}", highlight=False)


def key(line: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells readings apart."""
    return tuple(line[name] for name in ("length", "document", "contestant", "budget", "pin_first", "pin_newest"))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a results file, plain or gzipped."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def main() -> None:
    """Read what has not been read yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", default=list(CONFIG["parts"]), help="of exhibit.json")
    parser.add_argument("--contestants", nargs="+", default=[], help="only these, for a process of their own")
    parser.add_argument("--shard", default="0/1", help="a share i/n of the documents, one a process")
    parser.add_argument("--out", type=Path, default=Path("runs/smollm2/exhibit"))
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--heads", nargs="+", default=CONFIG["heads"], help="one folder a training seed")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(arguments.threads)
    shard = parse_shard(arguments.shard)
    only, console = arguments.contestants, Console(stderr=True)
    run(arguments.parts, only, shard, arguments.out, arguments.model, arguments.heads, console)


if __name__ == "__main__":
    main()
