"""What LoCoCo's merging does to answers and to running text: the table of docs/storages.md.

The built-in model reads documents of 1024 tokens; dense storage, `merge_v` and `lococo` are given the same ones.
Run ``python -m recipes.merger.measure``.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import math
import random
import statistics
from pathlib import Path
from typing import Any

import torch

import locret
from locret.eval.haystack import Context, Filler, build_context, question_ids
from locret.eval.needles import is_correct
from locret.files import write_text_whole
from locret.models.logits import check_logits
from locret.policies import policy_options

RESULTS = Path(__file__).parent / "results" / "lococo.json"
TEXT = Path(__file__).parents[3] / "shared" / "data" / "text"
STORAGES = ("dense", "merge_v", "lococo")
LENGTH, CHUNK, LOCAL, STABILIZERS, NEXT = 1024, 256, 16, 16, 128


def answers(engine: locret.Engine, tokenizer: Any, contexts: list[Context]) -> float:
    """Right answers in per cent."""
    right = []
    for context in contexts:
        session = engine.prefill(context.document_ids)
        for needle in context.needles:
            asked = engine.prefill(question_ids(tokenizer, needle), session)
            right.append(is_correct(engine.generate(asked, max_new_tokens=16, stop=(".", "\n")).text, needle))
    return 100 * statistics.fmean(right)


@torch.no_grad()
def losses(engine: locret.Engine, texts: list[list[int]]) -> list[float]:
    """Mean negative log-likelihood of the tokens that follow each document."""
    found = []
    for ids in texts:
        session = engine.prefill(ids[:LENGTH])
        after = torch.tensor(ids[LENGTH:])
        logits = engine.model(after[None], past_key_values=session.cache.fork()).logits[0, :-1].float()
        check_logits(torch.cat([session.logits[None], logits]))
        first = torch.nn.functional.cross_entropy(session.logits[None], after[:1], reduction="sum")
        rest = torch.nn.functional.cross_entropy(logits, after[1:], reduction="sum")
        found.append(float(first + rest) / len(after))
    return found


def running_texts(tokenizer: Any, count: int, seed: int) -> list[list[int]]:
    """Token ids of documents and what follows, half from books that nothing was trained on, half from wikitext."""
    with gzip.open(TEXT / "books_valid.jsonl.gz", "rt", encoding="utf-8") as lines:
        sources = [json.loads(line)["text"] for line in lines]
    with gzip.open(TEXT / "wikitext2_valid.txt.gz", "rt", encoding="utf-8") as file:
        wikitext = file.read()
    rng, found = random.Random(seed), []
    for i in range(count):
        source = wikitext if i % 2 else sources[i // 2 % len(sources)]
        begin = rng.randrange(len(source) - 16 * LENGTH)
        found.append(tokenizer(source[begin : begin + 16 * LENGTH])["input_ids"][: LENGTH + NEXT])
    assert all(len(ids) == LENGTH + NEXT for ids in found)
    return found


def main() -> None:
    """Measure every storage with every policy and budget that the file of results does not have yet; print and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=6, help="of 16 questions each")
    parser.add_argument("--texts", type=int, default=16)
    parser.add_argument("--policies", nargs="+", default=["locret", "h2o"])
    parser.add_argument("--budgets", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--storages", nargs="+", default=STORAGES)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    model, tokenizer, heads = locret.load_builtin()
    filler, rng = Filler.python_reference(), random.Random(options.seed)
    contexts = [build_context(tokenizer, filler, "mix", LENGTH, 16, rng) for _ in range(options.documents)]
    texts = running_texts(tokenizer, options.texts, options.seed)
    rows: list[dict[str, Any]] = json.loads(options.out.read_text()) if options.out.exists() else []
    for policy, size, storage in itertools.product(options.policies, options.budgets, options.storages):
        setting = {"policy": policy, "budget": size, "storage": storage, "seed": options.seed}
        if any(setting.items() <= row.items() for row in rows):
            continue
        made = locret.get_policy(policy, **({"heads": heads} if "heads" in policy_options(policy) else {}))
        budget = locret.Budget(size, chunk=CHUNK, stabilizers=STABILIZERS, local=LOCAL)
        engine = locret.Engine(model, tokenizer, policy=made, budget=budget, storage=storage)
        each = losses(engine, texts)
        rows.append({
            **setting, "kv_bytes": engine.prefill(texts[0][:LENGTH]).kv_bytes, "questions": 16 * len(contexts),
            "score": round(answers(engine, tokenizer, contexts), 1), "nll": [round(one, 4) for one in each],
        })  # fmt: skip
        print(with_change(rows[-1], rows), flush=True)
        write_text_whole(options.out, json.dumps(rows) + "\n")
    print(*(with_change(row, rows) for row in rows), sep="\n")


def with_change(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """One line of the table: the change of the negative log-likelihood is that against dense storage."""
    alike = (one for one in rows if all(one[name] == row[name] for name in ("policy", "budget", "seed")))
    dense = next((one["nll"] for one in alike if one["storage"] == "dense"), row["nll"])
    change = [one - other for one, other in zip(row["nll"], dense, strict=True)]
    error = statistics.stdev(change) / math.sqrt(len(change))
    return (
        f"{row['policy']} {row['budget']} {row['storage']}: score {row['score']}, {row['kv_bytes']} bytes, "
        f"nll {statistics.fmean(row['nll']):.3f}, {statistics.fmean(change):+.3f} +- {error:.3f}"
    )


if __name__ == "__main__":
    main()
