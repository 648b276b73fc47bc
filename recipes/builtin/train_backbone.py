"""Train the built-in backbone from scratch.

Run ``python -m recipes.builtin.train_backbone --help``. The run can be stopped and started again:
it goes on from the last checkpoint in ``--runs``, with the stages that the source then has.
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AutoTokenizer, LlamaForCausalLM

from locret.eval.haystack import EncodedFiller, Filler
from locret.files import write_whole
from recipes.builtin.backbone import build, config, use_training_attention
from recipes.builtin.data import Batch, BatchMaker, Mixture
from recipes.builtin.text import training_texts
from recipes.builtin.tokenizer import BUILTIN, ROOT

CHECKPOINT_SECONDS = 90
TEXT_LOSS = 0.3


@dataclass(frozen=True)
class Stage:
    """Steps with sequences of one length; the learning rate goes linearly from first to last."""

    steps: int
    size: int
    mixture: Mixture
    first_rate: float
    last_rate: float


STAGES = (
    Stage(300, 32, Mixture(128, repeats=0.8, gaps=0.0), 6e-3, 6e-3),
    Stage(300, 16, Mixture(256, repeats=0.5, gaps=0.0), 6e-3, 6e-3),
    Stage(400, 16, Mixture(256, repeats=0.3, gaps=0.7), 5e-3, 5e-3),
    Stage(404, 16, Mixture(512, repeats=0.3, gaps=0.7), 5e-3, 4.2e-3),
    Stage(300, 8, Mixture(1024, repeats=0.3, gaps=0.7), 4e-3, 3e-3),
    Stage(200, 4, Mixture(2048, repeats=0.3, gaps=0.7), 3e-3, 2e-3),
    Stage(190, 2, Mixture(4096, repeats=0.2, gaps=0.7), 2e-3, 1.2e-3),
    Stage(110, 1, Mixture(8192, repeats=0.2, gaps=0.7), 1.2e-3, 6e-4),
    Stage(250, 8, Mixture(1024, repeats=0.2, gaps=0.7), 1.5e-3, 6e-4),
    Stage(24, 1, Mixture(16384, repeats=0.1, gaps=0.5), 6e-4, 2e-4),
    Stage(5, 1, Mixture(32700, repeats=0.1, gaps=0.0), 2e-4, 1e-4),
    Stage(300, 8, Mixture(1024, repeats=0.2, gaps=0.7), 1.5e-3, 7e-4),
    Stage(60, 1, Mixture(16384, repeats=0.1, gaps=0.3), 7e-4, 2e-4),
    Stage(6, 1, Mixture(32700, repeats=0.1, gaps=0.0), 2e-4, 5e-5),
)
WARM_UP = 30


def losses(model: LlamaForCausalLM, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Mean loss of answer tokens and of document tokens, and the share of answer tokens right.

    The output layer is applied only where a loss is wanted.
    """
    wanted = (batch.answer_weight[:, :-1] > 0) | batch.is_text[:, :-1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.model(
            input_ids=batch.ids, position_ids=batch.positions, use_cache=False
        ).last_hidden_state  # [batch, tokens, width]
        logits = model.lm_head(hidden[:, :-1][wanted])  # [wanted, vocabulary]
    targets = batch.ids[:, 1:][wanted]
    weight = batch.answer_weight[:, :-1][wanted]
    each = F.cross_entropy(logits.float(), targets, reduction="none")
    answer = (each * weight).sum() / weight.sum()
    is_text = batch.is_text[:, :-1][wanted]
    text = each[is_text].mean()
    right = (logits.argmax(-1) == targets)[weight == 1].float().mean().item()
    return answer, text, right


class Trainer:
    """Model, optimisers and progress of one run."""

    def __init__(self, model: LlamaForCausalLM, batches: BatchMaker, folder: Path) -> None:
        self.model = model
        self.batches = batches
        self.folder = folder
        matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
        others = [p for n, p in model.named_parameters() if p.ndim < 2 or "embed" in n]
        self.muon = torch.optim.Muon(matrices, lr=1.0, weight_decay=0.01)
        self.adam = torch.optim.AdamW(others, lr=1.0, betas=(0.9, 0.98), weight_decay=0.0)
        self.stage = 0
        self.step = 0
        self.done = 0
        self.seconds = 0.0
        self.saved = time.time()

    def train(self, stages: tuple[Stage, ...]) -> None:
        """Run what is left of the stages."""
        while self.stage < len(stages):
            stage = stages[self.stage]
            self._train_stage(stage)
            self.stage, self.step = self.stage + 1, 0
            self.save()

    def _train_stage(self, stage: Stage) -> None:
        seen: list[tuple[float, float, float]] = []
        begun = time.time()
        while self.step < stage.steps:
            started = time.time()
            share = self.step / stage.steps
            rate = stage.first_rate + share * (stage.last_rate - stage.first_rate)
            rate *= min(1.0, (self.done + 1) / WARM_UP)
            batch = self.batches.batch(stage.size, stage.mixture)
            answer, text, right = losses(self.model, batch)
            (answer + TEXT_LOSS * text).backward()
            self._update(rate)
            seen.append((answer.item(), text.item(), right))
            self.step += 1
            self.done += 1
            self.seconds += time.time() - started
            if self.step % 25 == 0 or self.step == stage.steps or stage.mixture.length > 8000:
                means = [sum(values) / len(values) for values in zip(*seen, strict=True)]
                speed = len(seen) * stage.size * stage.mixture.length / (time.time() - begun)
                print(
                    f"{self.seconds:6.0f} s  stage {self.stage} length {stage.mixture.length} "
                    f"step {self.step}/{stage.steps}  rate {rate:.1e}  answer {means[0]:.3f}  "
                    f"text {means[1]:.3f}  right {means[2]:.3f}  {speed:.0f} tokens/s",
                    flush=True,
                )
                seen, begun = [], time.time()
            if time.time() - self.saved > CHECKPOINT_SECONDS:
                self.save()

    def _update(self, rate: float) -> None:
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer, scale in ((self.muon, 1.0), (self.adam, 0.6)):
            for group in optimizer.param_groups:
                group["lr"] = rate * scale
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def save(self) -> None:
        """Write everything that going on needs, and the model by itself."""
        state = {
            "model": self.model.state_dict(),
            "muon": self.muon.state_dict(),
            "adam": self.adam.state_dict(),
            "progress": (self.stage, self.step, self.done, self.seconds),
            "rng": self.batches.rng.getstate(),
        }
        write_whole(self.folder / "state.pt", partial(torch.save, state))
        save_model(self.model, self.folder / "model")
        self.saved = time.time()

    def resume(self) -> bool:
        """Go on from the folder's checkpoint if there is one."""
        path = self.folder / "state.pt"
        if not path.exists():
            return False
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
        self.stage, self.step, self.done, self.seconds = state["progress"]
        self.batches.rng.setstate(state["rng"])
        return True


def save_model(model: LlamaForCausalLM, folder: Path) -> None:
    """Save the model in bfloat16, with a configuration that names no private attention."""
    settings = config(model.config.bos_token_id, model.config.eos_token_id, model.config.vocab_size)
    copy = LlamaForCausalLM(settings)
    copy.load_state_dict(model.state_dict())
    copy.to(torch.bfloat16).save_pretrained(folder)


def encoded_text(books: Path | None, cache: Path) -> EncodedFiller:
    """The training text in the built-in tokenizer's ids; kept in ``cache``."""
    if cache.exists():
        ids, starts = torch.load(cache)
    else:
        tokenizer = AutoTokenizer.from_pretrained(BUILTIN)
        encoded = Filler("\n".join(training_texts(books))).encode(tokenizer)
        ids, starts = torch.tensor(encoded.ids), torch.tensor(encoded.starts)
        write_whole(cache, partial(torch.save, (ids, starts)))
    return EncodedFiller(ids.tolist(), starts.tolist())


def main() -> None:
    """Train, and write the model into the package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--books", type=Path, help="a .jsonl.gz file with books to train on")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "builtin")
    parser.add_argument("--out", type=Path, default=BUILTIN)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.runs.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(BUILTIN)
    filler = encoded_text(arguments.books, arguments.runs / "text.pt")
    print(f"{len(filler.ids) / 1e6:.1f} M tokens of text", flush=True)
    settings = config(tokenizer.bos_token_id, tokenizer.eos_token_id, len(tokenizer))
    model = build(settings, arguments.seed)
    use_training_attention(model)
    print(f"{model.num_parameters() / 1e6:.2f} M parameters", flush=True)
    batches = BatchMaker(tokenizer, filler, random.Random(arguments.seed))
    trainer = Trainer(model, batches, arguments.runs)
    if trainer.resume():
        print(f"going on at stage {trainer.stage}, step {trainer.step}", flush=True)
    trainer.train(STAGES)
    save_model(model, arguments.out)


if __name__ == "__main__":
    main()
