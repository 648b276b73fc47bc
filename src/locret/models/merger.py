"""Mergers: one small convolution a layer that says how evicted units are merged into memory slots (LoCoCo).

    logits = conv1d([k; v]), a channel for each slot, separately in every KV head

over the units that are to be merged (arXiv 2406.05317). The softmax of a slot's logits over the units are its weights;
`locret.cache.convolved` holds the slots. There is no bias, as it would go out in the softmax.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from locret.errors import LocretError
from locret.files import text_writer, write_together
from locret.models.families import shapes_of, text_config
from locret.models.fingerprint import same_backbone
from locret.models.placement import PLAIN
from locret.models.weights_digest import DIGEST, check_digest, digest_of
from locret.texts import read_json
from locret.typed import from_object

KERNEL = 21  # as in the paper
SLOTS = 16
WEIGHTS, CONFIG = "merger.safetensors", "merger.json"
FORMAT = 1
REMEDY = "train one: python -m recipes.merger --help"


@dataclass(frozen=True, slots=True)
class MergerConfig:
    """What a merger was made for.

    Attributes:
        model_type: transformers' model type of the backbone.
        layers, kv_heads, head_dim: the backbone's attention sizes.
        slots: memory slots of a KV head; fewer may be used, the first ones.
        kernel: neighbouring units that a logit is computed from; odd.
        objective: what it was trained for; "" for one that is not trained.
        fingerprint: samples of the backbone's weights (`fingerprint_of`); empty where unknown.
    """

    model_type: str
    layers: int
    kv_heads: int
    head_dim: int
    slots: int = SLOTS
    kernel: int = KERNEL
    objective: str = ""
    fingerprint: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("layers", "kv_heads", "head_dim", "slots", "kernel"):
            size = getattr(self, name)
            if type(size) is not int or size < 1:
                raise LocretError(f"{name} is {size!r}: a merger needs a whole number of at least 1")
        if self.kernel % 2 == 0:
            raise LocretError(f"kernel is {self.kernel}: give an odd number of units")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a layer's weight: [kv_heads, slots, 2 head_dim, kernel]."""
        return (self.kv_heads, self.slots, 2 * self.head_dim, self.kernel)


class Merger(nn.Module):
    """The convolutions of a whole model.

    Attributes:
        config: what it was made for.
        layers: a weight [kv_heads, slots, 2 head_dim, kernel] each; keys are the first half of the channels.
    """

    def __init__(self, config: MergerConfig) -> None:
        super().__init__()
        self.config = config
        scale = (2 * config.head_dim * config.kernel) ** -0.5
        self.layers = nn.ParameterList(nn.Parameter(torch.randn(config.shape) * scale) for _ in range(config.layers))

    @classmethod
    def from_config(
        cls, config: Any, slots: int = SLOTS, kernel: int = KERNEL, fingerprint: tuple[float, ...] = ()
    ) -> Merger:
        """A fresh merger, to be trained, for the model that a transformers configuration describes."""
        shapes = shapes_of(config)
        return cls(
            MergerConfig(text_config(config).model_type, shapes.layers, shapes.kv_heads, shapes.head_dim, slots, kernel,
                         fingerprint=fingerprint)
        )  # fmt: skip

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Merger:
        """Load a merger from a local folder.

        Raises:
            LocretError: nothing there, or the files are damaged or do not fit each other.
        """
        folder = Path(folder)
        config = _read_config(folder / CONFIG)
        try:
            tensors = load_file(folder / WEIGHTS)
        except (OSError, SafetensorError) as error:
            raise LocretError(
                f"{folder / WEIGHTS} is missing, damaged or cut short ({error}): copy it again, or {REMEDY}"
            ) from error
        found = {name: tuple(tensors[name].shape) for name in sorted(tensors)}
        if len(found) != config.layers or set(found.values()) != {config.shape}:  # before as much is made as it may say
            raise LocretError(
                f"{folder / WEIGHTS} holds {found}, but {CONFIG} says {config.layers} layers of {config.shape}: "
                "the two files do not belong together"
            )
        strange = sorted(name for name, tensor in tensors.items() if tensor.dtype not in PLAIN)
        if strange:
            raise LocretError(
                f"{folder / WEIGHTS}: {strange[0]} is of {tensors[strange[0]].dtype}: give floating point numbers"
            )
        merger = cls(config)
        if found.keys() != merger.state_dict().keys():
            raise LocretError(f"{folder / WEIGHTS} names its tensors {', '.join(found)}: copy it again, or {REMEDY}")
        check_digest(tensors, folder / CONFIG)
        merger.load_state_dict(tensors)
        return merger

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Write `merger.safetensors`, in this precision, and `merger.json`, both or none; the folder is made."""
        tensors = {name: part.detach().to("cpu", dtype).contiguous() for name, part in self.state_dict().items()}
        text = json.dumps({"format": FORMAT, **asdict(self.config), DIGEST: digest_of(tensors)}, indent=2)
        write_together({
            Path(folder) / CONFIG: text_writer(text + "\n"),  # first, as it knows its weights
            Path(folder) / WEIGHTS: lambda path: save_file(tensors, path, metadata={"format": "pt"}),
        })  # fmt: skip

    def check_fits(self, model: nn.Module) -> None:
        """Make sure that this merger is trained and belongs to `model`.

        Raises:
            LocretError: it is not trained, or model type, sizes or weights differ.
        """
        config: Any = model.config
        shapes, mine = shapes_of(config), self.config
        theirs = {"model_type": text_config(config).model_type, "layers": shapes.layers, "kv_heads": shapes.kv_heads,
                  "head_dim": shapes.head_dim}  # fmt: skip
        wrong = [f"{key} is {getattr(mine, key)}, the model has {value}" for key, value in theirs.items()
                 if getattr(mine, key) != value]  # fmt: skip
        if wrong:
            raise LocretError(f"this merger is of another model: {'; '.join(wrong)}: {REMEDY}")
        if not same_backbone(mine.fingerprint, model):
            raise LocretError(
                f"this merger was trained on other weights than this {mine.model_type} model's "
                f"(the fingerprints differ): load its own, or {REMEDY}"
            )
        if not mine.objective:
            raise LocretError(f"this merger is not trained, so its memory slots would hold noise: {REMEDY}")


def merge(weight: Tensor, units: Tensor, alive: Tensor) -> Tensor:
    """Merge units into slots.

    Args:
        weight: [kv_heads, slots, 2 head_dim, kernel].
        units: keys and values side by side, fp32 [batch, kv_heads, units, 2 head_dim].
        alive: [batch, kv_heads, units]; the others (padding) count as zeros to their neighbours and get no weight.

    Returns:
        What the slots hold, [batch, kv_heads, slots, 2 head_dim]; zeros in a head without a unit that is alive.
    """
    heads, slots, _, kernel = weight.shape
    units = units * alive[..., None]
    channels = units.mT.flatten(1, 2)  # [batch, kv_heads * 2 head_dim, units]
    logits = nn.functional.conv1d(channels, weight.flatten(0, 1), padding=kernel // 2, groups=heads)
    logits = logits.unflatten(1, (heads, slots))  # [batch, kv_heads, slots, units]
    shares = logits.masked_fill(~alive[:, :, None], torch.finfo(logits.dtype).min).softmax(dim=-1)
    return shares @ units


def _read_config(path: Path) -> MergerConfig:
    if not path.is_file():
        raise LocretError(f"{path.parent} holds no merger: {CONFIG} and {WEIGHTS} are expected there; {REMEDY}")
    try:
        return from_object(MergerConfig, read_json(path))
    except LocretError as error:
        raise LocretError(f"{path} is not a configuration of a merger ({error}): copy it again") from error
