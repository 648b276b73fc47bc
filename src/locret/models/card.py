"""The model card that goes with retaining heads: what they are, what they are for, how to use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id

from locret.models.heads_config import HeadsConfig

TAGS = ["locret", "retaining-heads", "kv-cache", "long-context"]
PAPER = "https://arxiv.org/abs/2410.01805"
COLUMNS = ("policy", "task", "length", "budget", "samples", "score")


@dataclass(frozen=True, slots=True)
class Card:
    """What a model card should say that the heads themselves do not know. Everything may be left out.

    Attributes:
        backbone: hub id of the model that the heads belong to.
        datasets: hub ids or names of the training data.
        results: rows with policy, task, length, budget, samples and score, such as those `locret eval` writes; rows
            with other fields are shown with all of them.
        licence: the hub's identifier of a licence, such as "apache-2.0".
        notes: more about training or use, as Markdown.
    """

    backbone: str = ""
    datasets: Sequence[str] = ()
    results: Sequence[Mapping[str, Any]] = ()
    licence: str = ""
    notes: str = ""


def make_card(config: HeadsConfig, dtype: torch.dtype, card: Card, place: str) -> ModelCard:
    """The text of a card, with its metadata for the hub.

    Args:
        config: of the heads, whose sizes and objective are told.
        dtype: of their weights.
        card: what else there is to tell.
        place: where the heads will be loaded from, a hub id or a folder.
    """
    name = card.backbone or f"a {config.model_type} model"
    data = ModelCardData(
        base_model=card.backbone if is_hub_id(card.backbone) else None,
        datasets=[name for name in card.datasets if is_hub_id(name)] or None,
        library_name="locret",
        license=card.licence or None,
        tags=TAGS,
    )
    parts = [
        f"# Retaining heads for {name}",
        f"One small MLP a layer that predicts which units of the KV cache will matter, so that {name} reads prompts of "
        f"any length in fixed memory (Locret, [arXiv 2410.01805]({PAPER})). The model itself is not changed, and is "
        "not in this repository.",
        "## Heads\n\n" + _table(_facts(config, dtype)),
        "## Training\n\n" + _training(config, card),
        "## Results\n\n" + (_table(_shown(card.results)) if card.results else "None were given."),
        "## Use\n\n" + _use(card, place),
        "## Limits\n\n" + _limits(config),
        f"## Licence\n\n{card.licence or 'Not stated.'}",
    ]
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n")


def is_hub_id(name: str) -> bool:
    """Whether `name` is of the form owner/name, and not a path here."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name and not Path(name).exists()


def _facts(config: HeadsConfig, dtype: torch.dtype) -> list[dict[str, Any]]:
    facts = {
        "model type": config.model_type,
        "layers": config.layers,
        "query heads, KV heads, head size": f"{config.q_heads}, {config.kv_heads}, {config.head_dim}",
        "width": config.width,
        "activation": config.activation,
        "parameters": config.parameters,
        "dtype": str(dtype).removeprefix("torch."),
    }
    return [{"size": key, "value": value} for key, value in facts.items()]


def _training(config: HeadsConfig, card: Card) -> str:
    objective = config.objective
    trained = f"Objective: `{objective}`; the backbone was frozen." if objective else "These heads are not trained."
    data = f"Data: {', '.join(card.datasets)}." if card.datasets else "Data: not stated."
    return "\n\n".join(part for part in (f"{trained} {data}", card.notes.strip()) if part)


def _use(card: Card, place: str) -> str:
    backbone = card.backbone or "path/to/the/backbone"
    return f"""```python
import locret
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained({backbone!r}, dtype="auto")
tokenizer = AutoTokenizer.from_pretrained({backbone!r})
heads = locret.RetainingHeads.from_pretrained({place!r})

policy = locret.get_policy("locret", heads=heads)
budget = locret.Budget(size=6000, chunk=3072, stabilizers=2500, local=100)
engine = locret.Engine(model, tokenizer, policy=policy, budget=budget)
session = engine.prefill(open("document.txt", encoding="utf-8").read())
print(engine.generate(session, max_new_tokens=64).text)
```

```sh
locret generate --model {backbone} --heads {place} --document document.txt --question "..."
```"""


def _limits(config: HeadsConfig) -> str:
    checked = (
        "they carry a fingerprint of these weights and are refused on others."
        if config.fingerprint
        else "they carry no fingerprint of these weights, so nothing will warn of others of the same shape."
    )
    return (
        f"The heads belong to one set of weights; {checked} What they drop from the cache is gone: a question about "
        "something that they did not expect to matter is answered wrong."
    )


def _shown(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    columns = [column for column in COLUMNS if column in results[0]] or list(results[0])
    return [{column: row.get(column, "") for column in columns} for row in results]


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table; all rows have the fields of the first."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return " ".join(text.split()).replace("|", "\\|")
