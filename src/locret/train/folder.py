"""The folder of a run: what it is a run of, its checkpoints, its loss curve, and the heads at last.

- `run.json`: configuration, data and model, to refuse a resume that would mix two runs.
- `log.jsonl`: one line a step.
- `checkpoints/`: see `locret.train.checkpoint`.
- `heads.safetensors`, `heads.json`: the trained heads, once the run is finished.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from locret.errors import LocretError
from locret.files import append, check_writable, write_text_whole
from locret.models.heads import RetainingHeads
from locret.texts import parse_json, read_json
from locret.train.checkpoint import PREFIX
from locret.train.config import TrainConfig
from locret.train.loop import StepReport
from locret.train.records import Records
from locret.typed import as_object, from_object, shown

RUN, LOG, CHECKPOINTS = "run.json", "log.jsonl", "checkpoints"


@dataclass(frozen=True, slots=True)
class LogRow:
    """A step in the loss curve: `loss` is `fit` and `smoothness` together, `recall` 0 to 1, `lr` the learning rate."""

    step: int
    loss: float
    fit: float
    smoothness: float
    recall: float
    lr: float


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Access to the files of one run.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.path / CHECKPOINTS

    def claim(self, identity: dict[str, Any], resume: bool) -> None:
        """Make the folder that of the run `identity`, or make sure that it is.

        A run without a checkpoint begins anew when it is resumed, so it may have other data then, such as mended ones.

        Raises:
            LocretError: it holds something else, or a run that is not to be resumed.
        """
        self.check_free(resume)
        if not any(self.checkpoints.glob(f"{PREFIX}*")):  # no run, or nothing of it that another one could spoil
            write_text_whole(self.path / RUN, json.dumps(identity, indent=2) + "\n")
            return
        before = self._read_identity()
        for key in sorted(before.keys() | identity.keys()):
            if before.get(key) != identity.get(key):
                raise LocretError(
                    f"cannot resume {self.path}: {key} was {shown(before.get(key))}, now it is "
                    f"{shown(identity.get(key))}: give the same as before, or another --out"
                )

    def check_free(self, resume: bool) -> None:
        """Refuse a folder that cannot be a run's, or holds one that is not to be resumed; nothing is written.

        Raises:
            LocretError: with what is there.
        """
        if not (self.path / RUN).exists():
            self._refuse_foreign_files()
            check_writable(self.path / RUN)
        elif not resume:
            raise LocretError(
                f"{self.path} holds a training run already: add --resume to go on with it, or choose another --out"
            )

    def _refuse_foreign_files(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise LocretError(f"{self.path} is a file: --out takes a folder")
        found = sorted(p.name for p in self.path.glob("*") if not p.name.startswith("."))
        if found:
            raise LocretError(f"{self.path} holds {found[0]} and no training run: choose a new folder for --out")

    def _read_identity(self) -> dict[str, Any]:
        try:
            return as_object(read_json(self.path / RUN))
        except LocretError as error:
            raise LocretError(f"{self.path / RUN} is damaged ({error}): choose another --out") from error

    def log(self, report: StepReport) -> None:
        """Add a step to the loss curve."""
        measures = report.measures
        row = LogRow(report.step, measures.loss, measures.fit, measures.smoothness, measures.recall, report.lr)
        append(
            self.path / LOG, json.dumps(asdict(row)) + "\n", sync=False
        )  # a checkpoint is synced, the curve need not be

    def forget_after(self, step: int) -> None:
        """Drop from the loss curve what a resumed run will do again, and a half-written line."""
        kept = [json.dumps(asdict(row)) for row in self.rows() if row.step <= step]
        write_text_whole(self.path / LOG, "".join(f"{line}\n" for line in kept))

    def rows(self) -> list[LogRow]:
        """The loss curve, up to the first line that is not whole."""
        rows: list[LogRow] = []
        if not (self.path / LOG).exists():
            return rows
        for line in (self.path / LOG).read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                rows.append(from_object(LogRow, parse_json(line, LOG)))
            except LocretError:
                break
        return rows


def identity_of(config: TrainConfig, records: Records, heads: RetainingHeads) -> dict[str, Any]:
    """What must be the same for two runs to be one: flat, so that a message can name the field."""
    backbone = heads.config
    return {
        **config.as_json(),
        "data": records.fingerprint,
        "model_type": backbone.model_type,
        "model_layers": backbone.layers,
        "model_heads": [backbone.q_heads, backbone.kv_heads, backbone.head_dim],
        "model_weights": list(backbone.fingerprint),
    }
