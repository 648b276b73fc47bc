"""`locret convert`: retaining heads as the paper's authors publish them, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from locret.cli.common import MODELS, JsonOption, Output, output

if TYPE_CHECKING:
    from locret.models.heads import RetainingHeads


def convert_command(
    src: Annotated[
        str,
        typer.Argument(metavar="SRC", help="A .safetensors, .bin or .pt file, a folder with such files, or a hub id."),
    ],
    dst: Annotated[Path, typer.Argument(metavar="DST", help="A new folder; with --to-original a file.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help=f"The heads' backbone: {MODELS}; or a config.json.",
            show_default="config.json in SRC",
        ),
    ] = None,
    to_original: Annotated[
        bool, typer.Option("--to-original", help="From a folder of heads to a .safetensors or .bin file.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Turn published retaining heads into a folder that --heads takes, checked against their backbone.

    The state dict may hold the heads alone or a whole model with heads, in one file or sharded.
    """
    with output(as_json) as out:
        heads = _export(src, dst, model) if to_original else _import(src, dst, model)
        _report(out, heads, dst)


def _import(src: str, dst: Path, model: str | None) -> RetainingHeads:
    from locret.models.convert import convert_heads
    from locret.models.heads_io import check_folder

    check_folder(dst)
    heads = convert_heads(src, model)
    heads.save_pretrained(dst)
    return heads


def _export(src: str, dst: Path, model: str | None) -> RetainingHeads:
    from locret.models.checkpoint import load_config
    from locret.models.heads import RetainingHeads
    from locret.models.original import check_export, export_heads

    check_export(dst)
    heads = RetainingHeads.from_pretrained(src)
    if model is not None:
        heads.check_sizes(load_config(model))
    export_heads(heads, dst)
    return heads


def _report(out: Output, heads: RetainingHeads, dst: Path) -> None:
    """Fill the JSON object, and print the same for people."""
    config, weights = heads.config, list(heads.parameters())
    out.result.update(
        layers=config.layers,
        kv_heads=config.kv_heads,
        width=config.width,
        parameters=sum(weight.numel() for weight in weights),
        dtype=str(weights[0].dtype).removeprefix("torch."),
        fingerprint=bool(config.fingerprint),
        out=str(dst),
    )
    out.console.print(
        "{layers} layers, {kv_heads} KV heads, width {width}, {parameters} parameters of {dtype}: the heads are in "
        "{out}".format(**out.result),
        soft_wrap=True,
        markup=False,
    )
