"""Train the merger of LoCoCo's storage (`locret.cache.convolved`) for a frozen model, on the CPU.

Documents are those that the built-in model's retaining heads are trained on, with their questions and answers behind
them; the policies take turns, at budgets drawn from a list. Other models: give --model, --data and --heads.

Run ``python -m recipes.merger --help``.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import locret
from locret.eval.benchmarks.jsonl import read_jsonl
from locret.models.checkpoint import BUILTIN
from locret.models.fingerprint import fingerprint_of
from locret.models.loading import load_model
from locret.models.merger import SLOTS, Merger
from locret.policies import policy_options
from recipes.merger.objective import layer_loss, recorded

OBJECTIVE = "attention_output"
BOOKS = Path(__file__).parents[3] / "shared" / "data" / "text" / "books_train.jsonl.gz"
PLAIN_EVERY = 9  # steps between two losses of the same units without slots; odd, so that policies take turns
REPORT_EVERY = 20  # steps between two lines of the log; what there is is saved then, too


def texts(options: argparse.Namespace, tokenizer: Any) -> Iterator[tuple[list[int], list[int]]]:
    """Token ids of documents without end, and of what follows each: its questions and answers."""
    if options.data:
        lines = [record.fields for record in read_jsonl(options.data)]
    else:
        from recipes.builtin.heads_data import records
        from recipes.builtin.text import training_texts

        books = BOOKS if BOOKS.exists() else None
        lines = list(records(tokenizer, training_texts(books), options.contexts, options.length, options.seed))
    rng = random.Random(options.seed)
    while True:
        for line in rng.sample(lines, len(lines)):
            behind = "".join(f"{asked['question']} {asked['answer']}" for asked in line["questions"])
            document = tokenizer(line["context"])["input_ids"]
            yield document, tokenizer(behind, add_special_tokens=False)["input_ids"][: options.chunk]


def train(options: argparse.Namespace) -> dict[str, Any]:
    """Train, save, and report losses with and without slots on documents that were not trained on yet."""
    torch.manual_seed(options.seed)
    rng = random.Random(options.seed)
    model, tokenizer, own = load_model(options.model, "float32", "cpu")
    heads = locret.RetainingHeads.from_pretrained(options.heads) if options.heads else own
    policies = [
        locret.get_policy(name, **({"heads": heads} if "heads" in policy_options(name) else {}))
        for name in options.policies
    ]
    merger = Merger.from_config(model.config, options.slots, fingerprint=fingerprint_of(model))
    merger.config = replace(merger.config, objective=OBJECTIVE)
    optimizer = torch.optim.AdamW(merger.parameters(), lr=options.lr, weight_decay=0.0)
    documents, began, step = texts(options, tokenizer), time.process_time(), 0
    losses: list[float] = []
    plain: list[float] = []  # without slots
    beside: list[float] = []  # with slots, of the same documents
    while step < options.steps:
        for group in optimizer.param_groups:  # warm-up, then a cosine
            group["lr"] = options.lr * min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / options.steps))
        budget = locret.Budget(rng.choice(options.budgets), chunk=options.chunk, stabilizers=16)
        document, rest = next(documents)
        logs = recorded(model, policies[step % len(policies)], budget, document, rest)
        each = [layer_loss(weight, log, len(document), rng) for weight, log in zip(merger.layers, logs, strict=True)]
        if step % PLAIN_EVERY == 0:
            plain.append(sum(float(layer_loss(None, log, len(document), rng)) for log in logs) / len(logs))
        optimizer.zero_grad()
        torch.stack(each).sum().backward()
        torch.nn.utils.clip_grad_norm_(merger.parameters(), 1.0)
        optimizer.step()
        losses.append(float(torch.stack(each).detach().mean()))
        if step % PLAIN_EVERY == 0:
            beside.append(losses[-1])
        step += 1
        if step % REPORT_EVERY == 0:
            recent = _mean(losses[-REPORT_EVERY:])
            same = _mean(beside[-9:])
            print(
                f"step {step}: {recent:.4f}; of the same documents {same:.4f}, {_mean(plain[-9:]):.4f} without slots",
                flush=True,
            )
            merger.save_pretrained(options.out, torch.bfloat16)
    merger.save_pretrained(options.out, torch.bfloat16)
    tenth = -(-len(losses) // 10)
    return {
        "steps": step, "cpu_seconds": round(time.process_time() - began), "policies": options.policies,
        "budgets": options.budgets, "loss_first_tenth": round(_mean(losses[:tenth]), 4),
        "loss_last_tenth": round(_mean(losses[-tenth:]), 4),
        "second_half_without_slots": round(_mean(plain[len(plain) // 2 :]), 4),
        "second_half_with_slots": round(_mean(beside[len(plain) // 2 :]), 4),
    }  # fmt: skip


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)


def main() -> None:
    """Train and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin", help="builtin, a folder or a hub id")
    parser.add_argument("--heads", help="retaining heads, for policy locret; default: those that lie with the model")
    parser.add_argument("--data", type=Path, help="JSON lines as locret train takes them; default: the built-in ones")
    parser.add_argument("--out", type=Path, default=BUILTIN / "merger")
    parser.add_argument("--policies", nargs="+", default=["locret", "h2o"])
    parser.add_argument("--budgets", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--chunk", type=int, default=256)
    parser.add_argument("--slots", type=int, default=SLOTS)
    parser.add_argument("--contexts", type=int, default=300, help="documents to make, without --data")
    parser.add_argument("--length", type=int, default=1024, help="their tokens")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    report = train(options)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
