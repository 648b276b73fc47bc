"""`locret plan`: the memory that reading a prompt takes, and what a memory has room for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from locret.cli.common import (
    LONGEST,
    MODELS,
    MOST_WIDTH,
    ChunkOption,
    DtypeOption,
    JsonOption,
    LocalOption,
    Output,
    PinFirstOption,
    PinNewestOption,
    PositionsOption,
    StabilizersOption,
    output,
)

if TYPE_CHECKING:
    from locret.cache.budget import Budget
    from locret.plan import Setting

GPU = "cuda"
DEVICES = (GPU, "cpu")


def plan_command(
    model: Annotated[
        str,
        typer.Option("--model", help=f"{MODELS}; or a shape such as llama-3.1-8b, or a config.json."),
    ] = "builtin",
    length: Annotated[int, typer.Option(min=1, max=LONGEST, help="Tokens of the prompt.")] = 131072,
    memory: Annotated[
        str | None, typer.Option(help="Such as 24GB (1000^3 bytes) or 24GiB.", show_default="that of this machine")
    ] = None,
    budget: Annotated[
        int | None, typer.Option(min=1, help="Units kept per KV head.", show_default="the largest that fits")
    ] = None,
    chunk: ChunkOption = None,
    stabilizers: StabilizersOption = None,
    local: LocalOption = None,
    pin_first: PinFirstOption = None,
    pin_newest: PinNewestOption = None,
    positions: PositionsOption = "true",
    policy: Annotated[str, typer.Option(help="What is kept, and how: locret, quant4, locret+quant4 ...")] = "locret",
    storage: Annotated[
        str | None, typer.Option(help="How it is held: offloaded, disk, quant4 ...", show_default="as --policy says")
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_WIDTH,
            help="Hidden width of the retaining heads.",
            show_default="as the model's heads, or 1024",
        ),
    ] = None,
    dtype: DtypeOption = "auto",
    kv_bits: Annotated[int | None, typer.Option(help="Bits of a stored key or value.", show_default="by dtype")] = None,
    weight_bits: Annotated[
        int | None, typer.Option(help="Bits of a weight inside the layers: 8 or 4.", show_default="by dtype")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cuda or cpu.", show_default="cuda, or what this machine has")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what reading a prompt takes, whether it fits, and the largest budget that would.

    Only the configuration is read, no weights. See docs/planning.md for what is counted.
    """
    if device not in (None, *DEVICES):
        raise typer.BadParameter(f"--device is {device!r}: give one of {', '.join(DEVICES)}")
    with output(as_json) as out:
        import torch

        from locret.cli.budget import least_size, measured_for, prompt_budget
        from locret.models.heads_config import WIDTH
        from locret.models.loading import known_width
        from locret.plan import find_config, largest_budget, setting_of
        from locret.plan.memory import machine_memory, parse_memory

        cuda = (device or (GPU if memory or torch.cuda.is_available() else "cpu")) == GPU
        room = machine_memory(cuda) if memory is None else parse_memory(memory)

        def make(size: int | None) -> Budget:
            return prompt_budget(
                model, size, chunk, stabilizers, local, positions, pin_first=pin_first, pin_newest=pin_newest
            )

        given = make(budget) if budget else None
        config = find_config(model)
        setting = setting_of(
            config,
            dtype=dtype,
            kv_bits=kv_bits,
            weight_bits=weight_bits,
            policy=policy if storage is None else f"{policy}+{storage}",
            width=width or known_width(model, config) or WIDTH,
            cuda=cuda,
            budget=given,
        )
        least = least_size(stabilizers, local, pin_first, pin_newest)
        largest = largest_budget(setting, length, make, room, least=least)
        planned = given or make(max(largest or measured_for(model).size, least))
        _report(out, setting, length, planned, largest, room)


def _report(out: Output, setting: Setting, length: int, planned: Budget, largest: int, room: int) -> None:
    """Fill the JSON object, and print the same for people."""
    from dataclasses import replace

    from locret.eval.table import human_bytes
    from locret.plan import estimate, longest_prompt
    from locret.plan.estimate import FULL

    needed = estimate(setting, length, planned)
    whole = replace(setting, policy=FULL)
    full = estimate(whole, length, planned)
    out.result.update(
        weights_bytes=needed.weights,
        kv_bytes=needed.kv,
        offloaded_bytes=needed.offloaded,
        full_kv_bytes=needed.full_kv,
        activation_bytes=needed.activations,
        total_bytes=needed.total,
        fits=needed.total + needed.reserve <= room,
        budget=largest,
        planned_budget=length if setting.policy == FULL else planned.size,
        length=length,
        memory_bytes=room,
        reserve_bytes=needed.reserve,
        heads_bytes=needed.heads,
        full_total_bytes=full.total,
        full_fits=full.total + full.reserve <= room,
        full_length=longest_prompt(whole, planned, room),
        peak_moment=needed.moment,
        peak_terms={name: count for name, count in needed.terms.items() if count},
    )
    beyond = length > setting.sizes.max_length and planned.positions == "true"
    if beyond:
        out.result["note"] = (
            f"{length} tokens are more than the model's window of {setting.sizes.max_length}: they are read with "
            "--positions compact only"
        )
    if not out.verbatim:
        return
    found = out.result
    lines = {
        "weights": human_bytes(needed.weights),
        "KV cache": f"{human_bytes(needed.kv)} at budget {found['planned_budget']} "
        f"({human_bytes(needed.full_kv)} without eviction)"
        + (f", {human_bytes(needed.offloaded)} of it elsewhere" if needed.offloaded else ""),
        "activations": f"{human_bytes(needed.activations)} (most in: {needed.moment})",
        "total": _total(needed.total, needed.reserve, room),
        "largest budget": str(largest) if largest else "none fits",
        "full attention": ("fits" if found["full_fits"] else f"{human_bytes(full.total)}, does not fit")
        + (f"; up to {found['full_length']} tokens would" if found["full_length"] else ""),
    }
    for name, text in lines.items():
        out.console.print(f"{name:>14}  {text}", soft_wrap=True, markup=False)
    if beyond:
        out.notes.print(found["note"], soft_wrap=True)


def _total(total: int, reserve: int, room: int) -> str:
    """What the tensors take, and what the memory has left for them beside the process itself."""
    from locret.eval.table import human_bytes

    if room < reserve:
        return (
            f"{human_bytes(total)}, does not fit: the memory is {human_bytes(room)}, and the process itself takes "
            f"{human_bytes(reserve)}"
        )
    return f"{human_bytes(total)} of {human_bytes(room - reserve)}: " + (
        "fits" if total + reserve <= room else "does not fit"
    )
