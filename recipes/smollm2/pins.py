"""Which ends to pin: locret with several pins, on WikiText-2 (neither trained on nor part of the exhibit).

The first 24 tokens are all of the chat template that stands before a document, its delimiters included. Run
``python -m recipes.smollm2.pins``; the lines go into `results/pins.jsonl`, the table to stdout.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import torch
from rich.console import Console

from locret.cli.common import quiet_libraries
from locret.eval.haystack import Filler
from locret.eval.lines import LineFile
from locret.models.loading import load_model
from recipes.smollm2.data import SHARED
from recipes.smollm2.exhibit import CONFIG, Entry, Exhibit, key
from recipes.smollm2.tables import TASKS, figure_cell, markdown, three

RESULTS = Path(__file__).parent / "results" / "pins.jsonl"
LENGTH, DOCUMENTS = 2048, 8
PINS = ((0, 0), (4, 0), (4, 64), (4, 96), (24, 96), (4, 128), (4, 192))
BUDGETS = ("1/8", "1/16")
CONTESTANTS = ("locret:0", "streaming_llm")


def entries() -> list[Entry]:
    """What is read, document by document; streaming_llm pins by nature."""
    return [
        Entry(LENGTH, document, contestant, budget, pins)
        for document in range(DOCUMENTS)
        for contestant in CONTESTANTS
        for pins in (PINS if contestant.startswith("locret") else ((4, 64),))
        for budget in BUDGETS
    ]


def table(file: LineFile) -> str:
    """KL divergence by pins, a column a task and budget."""
    rows = [["", *(f"{task} {budget}" for task in TASKS for budget in BUDGETS)]]
    rows.append(["---", *("--:" for _ in rows[0][1:])])
    settings = dict.fromkeys((line["contestant"], line["pin_first"], line["pin_newest"]) for line in file.lines)
    for contestant, first, newest in settings:
        own = [
            line
            for line in file.lines
            if (line["contestant"], line["pin_first"], line["pin_newest"]) == (contestant, first, newest)
        ]
        cells = [
            figure_cell([line[task]["kl"] for line in own if line["budget"] == budget], three)
            for task in TASKS
            for budget in BUDGETS
        ]
        rows.append([f"{contestant.partition(':')[0]}, first {first}, newest {newest}", *cells])
    return markdown(rows)


def main() -> None:
    """Read what there is no line of, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--heads", nargs="+", default=CONFIG["heads"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(arguments.threads)
    with gzip.open(SHARED / "text" / "wikitext2_valid.txt.gz", "rt", encoding="utf-8") as text:
        filler = Filler(text.read())
    model, tokenizer, _ = load_model(arguments.model, "float32", "cpu")
    exhibit = Exhibit(model, tokenizer, filler, arguments.heads)
    file = LineFile(arguments.out)
    done = {key(line) for line in file.lines}
    for entry in entries():
        if key(entry.as_json()) not in done:
            file.append(exhibit.measure(entry))
    Console().print(table(file), soft_wrap=True, markup=False)


if __name__ == "__main__":
    main()
