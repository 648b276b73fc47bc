"""A document eight times as long as the built-in model's window: compact positions against true ones.

With true positions the engine refuses such a prompt; here the window is lifted for it, to show what would come out.

Run ``python -m recipes.builtin.stream``.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import locret
from locret.eval.haystack import Context, Filler, build_context, question_ids
from locret.eval.intervals import wilson
from locret.eval.needles import is_correct
from locret.files import write_text_whole, write_whole
from recipes.builtin.backbone import WINDOW

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "stream.json"
PLOT = HERE.parents[1] / "docs" / "assets" / "stream.png"
KEYS = 16
LIFTED = 1 << 24


def documents(tokenizer: Any, length: int, count: int, seed: int) -> Sequence[Context]:
    """Documents with a fact in every sixteenth of them."""
    filler, rng = Filler.python_reference(), random.Random(seed)
    depths = [(i + 0.5) / KEYS for i in range(KEYS)]
    return [build_context(tokenizer, filler, "mix", length, KEYS, rng, depths=rng.sample(depths, KEYS))
            for _ in range(count)]  # fmt: skip


def right_by_depth(engine: locret.Engine, tokenizer: Any, contexts: Sequence[Context], length: int) -> dict[str, Any]:
    """How many of the documents' facts are found, by the sixteenth that they are in."""
    right, seconds, held = [0] * KEYS, 0.0, 0
    for context in contexts:
        began = time.time()
        session = engine.prefill(context.document_ids)
        seconds += time.time() - began
        held = session.kv_bytes
        for needle, position in zip(context.needles, context.positions, strict=True):
            asked = engine.prefill(question_ids(tokenizer, needle), session)
            text = engine.generate(asked, max_new_tokens=16, stop=(".", "\n")).text
            right[min(KEYS - 1, position * KEYS // length)] += is_correct(text, needle)
    total = KEYS * len(contexts)
    low, high = wilson(sum(right) / total, total)
    return {
        "score": round(100 * sum(right) / total, 2), "low": round(100 * low, 2), "high": round(100 * high, 2),
        "questions": total, "right_by_depth": right, "documents": len(contexts), "kv_bytes": held,
        "seconds_a_document": round(seconds / len(contexts), 1),
    }  # fmt: skip


def plot(report: dict[str, Any], path: Path) -> None:
    """Share of right answers by where the fact stands, a line for each way of reading."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
    for row in report["results"]:
        shares = [100 * n / row["documents"] for n in row["right_by_depth"]]
        depths = [100 * (i + 0.5) / KEYS for i in range(KEYS)]
        axis.plot(
            depths, shares, marker="o", label=f"{row['positions']}, {row['length'] // 1024}K, {row['budget']} units"
        )
    axis.axvline(100 / report["windows"], color="grey", linestyle=":", label="end of the trained window")
    axis.set(
        title=f"{report['results'][0]['length'] // 1024}K tokens",
        xlabel="depth of the fact, %",
        ylabel="right answers, %",
        ylim=(-3, 103),
    )
    axis.legend(fontsize=8)
    write_whole(path, lambda temporary: figure.savefig(temporary, format="png", dpi=110))


def main() -> None:
    """Read, ask, write the results and the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=8, help="length of a document, in windows")
    parser.add_argument("--documents", type=int, default=7)
    parser.add_argument("--budgets", type=int, nargs="+", default=[1024, 2048])
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    length = arguments.windows * WINDOW
    model, tokenizer, heads = locret.load_builtin()
    policy = locret.get_policy("locret", heads=heads)
    contexts = documents(tokenizer, length, arguments.documents, arguments.seed)
    report: dict[str, Any] = {"windows": arguments.windows, "seed": arguments.seed, "results": []}
    for positions in ("compact", "true"):
        # A true position past the window is refused; for this comparison the refusal is lifted.
        model.config.max_position_embeddings = LIFTED if positions == "true" else WINDOW
        for size in arguments.budgets:
            budget = locret.Budget(size=size, chunk=1024, stabilizers=32, local=32, positions=positions)
            engine = locret.Engine(model, tokenizer, policy=policy, budget=budget)
            row = right_by_depth(engine, tokenizer, contexts, length)
            report["results"].append({"positions": positions, "length": length, "budget": size, **row})
            print(json.dumps(report["results"][-1]), flush=True)
            write_text_whole(arguments.out, json.dumps(report, indent=1) + "\n")
    plot(report, PLOT)


if __name__ == "__main__":
    main()
