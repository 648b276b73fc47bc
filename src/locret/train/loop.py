"""The training loop: batches, gradients over all processes, AdamW, reports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from locret.errors import LocretError
from locret.models.heads import RetainingHeads
from locret.train.config import TrainConfig
from locret.train.records import Records
from locret.train.samples import Sample, SampleMaker, SampleOrder
from locret.train.streaming import Measures, accumulate_gradients


@dataclass(frozen=True, slots=True)
class StepReport:
    """One optimiser step: its number (1 first), the batch's means, and the learning rate."""

    step: int
    measures: Measures
    lr: float


@dataclass
class Trainer:
    """Everything a run consists of; its whole state is the heads, the optimiser and `step`.

    Attributes:
        model: the backbone; only read.
        heads: the heads that learn, float32, on the accelerator's device.
        config: hyper-parameters.
        records: the data.
        make_sample: turns a record into a sample.
        accelerator: device and processes.
        optimizer: AdamW over the heads' parameters.
        step: number of steps done.
    """

    model: nn.Module
    heads: RetainingHeads
    config: TrainConfig
    records: Records
    make_sample: SampleMaker
    accelerator: Accelerator
    optimizer: torch.optim.AdamW
    step: int = 0

    def __post_init__(self) -> None:
        processes = self.accelerator.num_processes
        if self.config.batch_size < processes:
            raise LocretError(
                f"batch_size is {self.config.batch_size}: {processes} processes need at least "
                f"{processes} samples a step, better a multiple of it"
            )

    def check_records(self) -> None:
        """Make the sample of every record once, as what is wrong with one should not end the step that draws it.

        Raises:
            LocretError: a record cannot be used, with its file and line.
        """
        for record in self.records.items:
            self.make_sample(record)

    def run(self) -> Iterator[StepReport]:
        """Train to the end, one report a step; after a report the state is that of its step."""
        order = SampleOrder(len(self.records.items), self.config.batch_size, self.config.seed)
        processes, process = self.accelerator.num_processes, self.accelerator.process_index
        while self.step < self.config.steps:
            indices = order.share(self.step, process, processes)
            samples = [self.make_sample(self.records.items[index]) for index in indices]
            yield self._take_step(samples)

    def _take_step(self, samples: list[Sample]) -> StepReport:
        self.optimizer.zero_grad(set_to_none=False)
        weight = 1 / self.config.batch_size
        device = self.accelerator.device
        totals = torch.zeros(3, dtype=torch.float64)
        for sample in samples:
            measures = accumulate_gradients(self.model, self.heads, sample, self.config, device, weight)
            totals += weight * torch.tensor([measures.fit, measures.smoothness, measures.recall])
        self._share_gradients()
        totals = _sum_over_processes(totals.float().to(device), self.accelerator)
        self._check_gradients()
        nn.utils.clip_grad_value_(self.heads.parameters(), self.config.clip)
        rate = self.config.learning_rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.step += 1
        return StepReport(self.step, Measures(*totals.tolist()), rate)

    def _check_gradients(self) -> None:
        """Refuse gradients that are no numbers: the step would make heads of none, and save them.

        Raises:
            LocretError: one is NaN or infinite.
        """
        gradients = [p.grad for p in self.heads.parameters() if p.grad is not None]
        if not bool(torch.stack([gradient.isfinite().all() for gradient in gradients]).all()):
            raise LocretError(
                f"the gradients of step {self.step + 1} are no numbers: the heads overflow; try --dtype float32 or a "
                "lower --lr"
            )

    def _share_gradients(self) -> None:
        """Replace every gradient by its sum over the processes, in one reduction."""
        if self.accelerator.num_processes == 1:
            return
        gradients = [p.grad for p in self.heads.parameters() if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        flat = _sum_over_processes(flat, self.accelerator)
        pieces = flat.split([gradient.numel() for gradient in gradients])
        for gradient, piece in zip(gradients, pieces, strict=True):
            gradient.copy_(piece.view_as(gradient))


def _sum_over_processes(tensor: Tensor, accelerator: Accelerator) -> Tensor:
    total: Tensor = accelerator.reduce(tensor, reduction="sum")
    return total


def make_optimizer(heads: RetainingHeads, config: TrainConfig) -> torch.optim.AdamW:
    """The paper's AdamW; its learning rate is set anew at every step."""
    return torch.optim.AdamW(heads.parameters(), lr=config.lr, betas=config.betas, weight_decay=config.weight_decay)
