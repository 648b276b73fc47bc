"""How far copies of a model and other models are from it, by the fingerprint that retaining heads carry.

For SmolLM2-135M (found in 4 bits, so that its other precisions are made of these) and for the built-in model: the same
weights in fewer bits, fine-tuned copies, noise, and other weights. Beside the distance stands what it does to the
heads' task: the part of the context's most attended eighth (the labels that heads are trained on) that stays the same.

Run ``python -m recipes.smollm2.fingerprints``: prints a Markdown table, writes ``results/fingerprints.json``.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import json
import logging
import math
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from locret.files import write_text_whole
from locret.models.checkpoint import BUILTIN
from locret.models.families import attention_modules, budgeted_layers, shapes_of
from locret.models.fingerprint import (
    FAR,
    IN_STEPS,
    NEAR,
    ROUNDING,
    distance,
    fingerprint_of,
    old_fingerprint_of,
    same_backbone,
)
from locret.models.loading import load_model
from recipes.smollm2.data import SHARED

BOOKS = SHARED / "text" / "books_train.jsonl.gz"
RESULTS = Path(__file__).parent / "results" / "fingerprints.json"
TYPES = ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")
RATES = (2e-5, 1e-4, 1e-3)  # of fine-tuning: usual, high, ruinous
NOISE = (0.1, 0.2, 0.3, 0.5)  # relative to the weight
TRAINED = 48  # tokens of a step
TEXTS, CONTEXT, ASKING = 2, 448, 64  # tokens that are attended to, and tokens that attend
TITLES = ("model", "weights", "distance", "by old samples", "old figure", "labels that stay", "heads are")

Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Row:
    """One copy, or another model, against the original.

    Attributes:
        model: whose weights the heads would have been trained on.
        weights: what they are compared with.
        kind: "same", "fine-tuned", "noise" or "other".
        distance: of the fingerprints.
        old_samples: the same distance over the samples that files of format 1 hold.
        old_relative: of these, what was compared with 0.02 before.
        labels: part of the most attended eighth of a context that stays.
        verdict: what comes of heads of the original.
    """

    model: str
    weights: str
    kind: str
    distance: float
    old_samples: float
    old_relative: float
    labels: float
    verdict: str


@dataclass(frozen=True)
class Original:
    """A model, and what its copies are compared with.

    Attributes:
        name: for the table.
        model: in fp32, with attention that tells its probabilities.
        folder: where it is saved in fp32.
        ids: token ids of a book.
        steps: of fine-tuning.
    """

    name: str
    model: Any
    folder: Path
    ids: Tensor
    steps: int

    def changed(self, change: Change) -> Any:
        """A copy whose linear layers, but for the last, have other weights."""
        other = copy.deepcopy(self.model)
        for module in other.get_decoder().layers.modules():
            if isinstance(module, nn.Linear):
                module.weight.data = change(module.weight.data)
        return other

    def copies(self) -> Iterator[tuple[str, str, Any]]:
        """What is compared: name, kind, model; one at a time, as each is as large as the original."""
        yield "fp32", "same", self.model
        yield "bf16", "same", _load(self.folder, torch.bfloat16)
        for kind in TYPES:
            unpacked = self.changed(partial(_through, kind=kind))
            unpacked.config.dequantised = True  # as `load_model` tells of GGUF files
            yield kind, "same", unpacked
        if find_spec("bitsandbytes"):
            eight = BitsAndBytesConfig(load_in_8bit=True)
            four = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
            yield "8 bits (LLM.int8), loaded", "same", _load(self.folder, torch.float32, quantization_config=eight)
            yield "4 bits (NF4), loaded", "same", _load(self.folder, torch.float32, quantization_config=four)
        for rate in RATES:
            yield f"fine-tuned, {self.steps} steps at {rate:.0e}", "fine-tuned", self.fine_tuned(rate)
        for part in NOISE:
            yield f"noise of {part}", "noise", self.changed(partial(_noisy, part=part))
        torch.manual_seed(1)
        yield "random, same shape", "other", AutoModelForCausalLM.from_config(self.model.config).eval()
        yield "rows permuted", "other", self.changed(lambda weight: weight[torch.randperm(len(weight))])
        yield "columns permuted", "other", self.changed(lambda weight: weight[:, torch.randperm(weight.shape[1])])
        yield "layers moved by one", "other", self.moved()

    def fine_tuned(self, rate: float) -> Any:
        """A copy trained on a book."""
        other = copy.deepcopy(self.model).train()
        optimizer = torch.optim.AdamW(other.parameters(), lr=rate)
        for ids in self.ids[: self.steps * TRAINED].split(TRAINED):
            other(input_ids=ids[None], labels=ids[None]).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return other.eval()

    def moved(self) -> Any:
        """A copy whose layers are in another order."""
        other = copy.deepcopy(self.model)
        layers = list(other.get_decoder().layers)
        other.get_decoder().layers = nn.ModuleList(layers[1:] + layers[:1])
        modules: list[Any] = attention_modules(other)
        for index, module in enumerate(modules):
            module.layer_idx = index
        return other

    def rows(self) -> Iterator[Row]:
        """The table's rows."""
        mine, old, best = fingerprint_of(self.model), old_fingerprint_of(self.model), self.labels(self.model)
        for name, kind, other in self.copies():
            apart, theirs = distance(mine, fingerprint_of(other)), old_fingerprint_of(other)
            samples = distance(old, theirs, IN_STEPS)
            relative = math.dist(old, theirs) / math.hypot(*old)
            stay = (best & self.labels(other)).sum().item() / best.sum().item()
            yield Row(self.name, name, kind, apart, samples, relative, stay, _verdict(mine, other))

    @torch.no_grad()
    def labels(self, model: Any) -> Tensor:
        """Which tokens are the most attended eighth: bool [texts, layers, kv_heads, context]."""
        kv_heads, found = shapes_of(model.config).kv_heads, []
        start = len(self.ids) // 2  # not what the copies are trained on
        for ids in self.ids[start:].split(CONTEXT + ASKING)[:TEXTS]:
            all_layers = model(input_ids=ids[None], output_attentions=True).attentions
            for layer in budgeted_layers(model.config):
                asked = all_layers[layer][0, :, CONTEXT:, :CONTEXT].float()
                label = asked.unflatten(0, (kv_heads, -1)).amax(dim=(1, 2))  # [kv_heads, context]
                top = label.topk(CONTEXT // 8).indices
                found.append(torch.zeros_like(label, dtype=torch.bool).scatter_(-1, top, True))
        return torch.stack(found)


def _verdict(mine: tuple[float, ...], other: Any) -> str:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        taken = same_backbone(mine, other)
    return ("taken with a warning" if told else "taken") if taken else "refused"


def _through(weight: Tensor, kind: str) -> Tensor:
    """A weight packed as a GGUF file does it, and unpacked."""
    packing = GGMLQuantizationType[kind]
    return torch.from_numpy(dequantize(quantize(weight.numpy(), packing), packing)).reshape(weight.shape)


def _noisy(weight: Tensor, part: float) -> Tensor:
    return weight + part * weight.std() * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))


def _load(folder: Path, dtype: torch.dtype, **options: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager", **options).eval()


def _saved_smollm2(folder: Path) -> None:
    """Save SmolLM2 in fp32, as if these were the weights that it was trained with."""
    model, tokenizer, _ = load_model("smollm2", "float32", "cpu")
    model.config.dequantised = False
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _original(name: str, folder: Path, steps: int) -> Original:
    with gzip.open(BOOKS, "rt", encoding="utf-8") as file:
        text = json.loads(next(file))["text"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = 2 * max(steps * TRAINED, TEXTS * (CONTEXT + ASKING))
    ids = torch.tensor(tokenizer(text[: 6 * tokens])["input_ids"][:tokens])
    return Original(name, _load(folder, torch.float32), folder, ids, steps)


def as_markdown(row: Row) -> str:
    """A line of the table."""
    figures = (f"{x:.2g}" if x < 0.1 else f"{x:.2f}" for x in (row.distance, row.old_samples, row.old_relative))
    return f"| {' | '.join([row.model, row.weights, *figures, f'{row.labels:.2f}', row.verdict])} |"


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--steps", type=int, default=20, help="of fine-tuning SmolLM2; the built-in model gets ten times"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of every product in 8 bits
    rows: list[Row] = []
    print(f"| {' | '.join(TITLES)} |\n|---|---|--:|--:|--:|--:|---|")
    with tempfile.TemporaryDirectory() as temporary:
        for name, folder, steps in (("built-in", BUILTIN, 10), ("SmolLM2-135M", Path(temporary), 1)):
            if folder != BUILTIN:
                _saved_smollm2(folder)
            for row in _original(name, folder, steps * options.steps).rows():
                print(as_markdown(row), flush=True)
                rows.append(row)
    bounds = {"rounding": ROUNDING, "near": NEAR, "far": FAR}
    result = {"steps": options.steps, "bounds": bounds, "rows": [asdict(row) for row in rows]}
    write_text_whole(options.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
