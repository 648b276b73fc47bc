"""`locret generate`: read a long prompt in fixed memory and go on from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from locret.cli.common import (
    MOST_SEED,
    BudgetOption,
    ChunkOption,
    DeviceOption,
    DtypeOption,
    HeadsOption,
    JsonOption,
    LocalOption,
    MethodOption,
    ModelOption,
    Output,
    PinFirstOption,
    PinNewestOption,
    PositionsOption,
    QueryFirstOption,
    StabilizersOption,
    StaticOption,
    output,
)

if TYPE_CHECKING:
    from locret.cli.prompt import Prompt
    from locret.engine import Result


def generate_command(
    document: Annotated[Path | None, typer.Option(help="Text file to ask about, with --question.")] = None,
    question: Annotated[str | None, typer.Option(help="What to ask about the document.")] = None,
    prompt_file: Annotated[Path | None, typer.Option(help="Text file that is the whole prompt.")] = None,
    prompt_ids: Annotated[Path | None, typer.Option(help="File with a JSON list of token ids.")] = None,
    model: ModelOption = "builtin",
    heads: HeadsOption = None,
    policy: MethodOption = "locret",
    budget: BudgetOption = None,
    chunk: ChunkOption = None,
    stabilizers: StabilizersOption = None,
    local: LocalOption = None,
    pin_first: PinFirstOption = None,
    pin_newest: PinNewestOption = None,
    positions: PositionsOption = "true",
    decode_budget: Annotated[
        int | None,
        typer.Option(help="Units kept on top of these while the answer is written.", show_default="all of the answer"),
    ] = None,
    decode_every: Annotated[int, typer.Option(help="Tokens written between two evictions.")] = 1,
    query_first: QueryFirstOption = False,
    chat: Annotated[
        bool | None,
        typer.Option(
            "--chat/--no-chat",
            help="The tokenizer's chat template around the prompt.",
            show_default="for a document, if there is one",
        ),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens to write at most.")] = 64,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    top_p: Annotated[float | None, typer.Option(help="Sample from the likeliest tokens of this mass.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Sample from so many of the likeliest tokens.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="A string that ends the answer; may be repeated.")] = None,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
    device_map: Annotated[
        str | None,
        typer.Option(help="Layers on several devices, in place of --device: auto, balanced or sequential."),
    ] = None,
    weight_bits: Annotated[
        int | None, typer.Option(help="8 or 4: quantise the weights while loading.", show_default="as they are saved")
    ] = None,
    static: StaticOption = False,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Of sampling, and of the random policy.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Read a prompt of any length chunk by chunk, keep what fits the budget, and answer.

    Give --document with --question, or --prompt-file, or --prompt-ids.
    """
    with output(as_json) as out:
        from locret.texts import argument_text

        if chat and prompt_ids is not None:
            raise typer.BadParameter("--chat is for text: token ids are read as they stand")
        if query_first and document is None:
            raise typer.BadParameter(
                "--query-first needs --document and --question: other prompts are read as they stand"
            )
        stops = tuple(argument_text(text, "--stop") for text in stop or ())
        prompt = _prompt(document, question, prompt_file, prompt_ids, query_first)

        from locret.cli.budget import prompt_budget
        from locret.cli.loading import check_method, load
        from locret.cli.progress import reading
        from locret.engine import Sampling
        from locret.engine.decode import stop_strings

        units = prompt_budget(
            model, budget, chunk, stabilizers, local, positions, decode_budget, decode_every, pin_first, pin_newest
        )
        sized = budget is not None  # without a budget of the user's, InfLLM has the paper's sizes
        method = check_method(policy, units, sized)
        Sampling(temperature, top_k, top_p, seed)
        stops = stop_strings(stop)
        loaded = load(model, heads, dtype, device, device_map=device_map, weight_bits=weight_bits)
        turns = prompt.turns(loaded.tokenizer, chat)
        asked = prompt.question_tokens(loaded.tokenizer, chat)
        chosen = loaded.policy(method.policy, seed)
        engine = method.engine(loaded.model, loaded.tokenizer, policy=chosen, budget=units, sized=sized, static=static)
        session = None
        with reading(out.notes, "reading") as progress:
            for i, turn in enumerate(turns):
                session = engine.prefill(
                    turn,
                    session,
                    progress=progress,
                    answer_tokens=max_new_tokens,
                    question_tokens=asked if i == 0 else 0,
                    later_tokens=sum(map(len, turns[i + 1 :])),
                )
        assert session is not None
        answer = engine.stream(
            session,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            seed=seed,
            stop=stops,
        )
        for piece in answer:
            out.write(piece)
        out.write("\n")
        _report(out, answer.result())


def _prompt(
    document: Path | None, question: str | None, prompt_file: Path | None, prompt_ids: Path | None, query_first: bool
) -> Prompt:
    """The one prompt that the options name; anything but one is bad usage."""
    from locret.cli.prompt import DocumentPrompt, TextPrompt, read_prompt, read_token_ids
    from locret.texts import argument_text

    given = [path for path in (document, prompt_file, prompt_ids) if path is not None]
    if len(given) != 1:
        raise typer.BadParameter("give one of --document (with --question), --prompt-file and --prompt-ids")
    if (document is None) != (question is None):
        raise typer.BadParameter("--document and --question belong together: give both")
    if document is not None and question is not None:
        question = argument_text(question, "--question")
        if not question.strip():
            raise typer.BadParameter("--question is empty: ask something about the document")
        return DocumentPrompt(read_prompt(document), question, query_first)
    return TextPrompt(read_prompt(prompt_file)) if prompt_file else read_token_ids(given[0])


def _report(out: Output, result: Result) -> None:
    """Fill the JSON object, and print the same figures for people."""
    from locret.eval.table import human_bytes

    stats = result.stats
    out.result.update(
        text=result.text,
        token_ids=result.token_ids,
        prompt_tokens=stats.prompt_tokens,
        kept_tokens=stats.kept_tokens,
        kv_bytes=stats.kv_bytes,
        offloaded_bytes=stats.offloaded_bytes,
        prefill_seconds=stats.prefill_seconds,
        decode_seconds=stats.decode_seconds,
        peak_memory_bytes=stats.peak_memory_bytes,
    )
    elsewhere = f", {human_bytes(stats.offloaded_bytes)} of it off the device" if stats.offloaded_bytes else ""
    read_rate = stats.prompt_tokens / max(stats.prefill_seconds, 1e-9)
    write_rate = stats.new_tokens / max(stats.decode_seconds, 1e-9)
    out.notes.print(
        f"read {stats.prompt_tokens} tokens in {stats.prefill_seconds:.1f} s ({read_rate:.0f} tok/s), "
        f"kept {stats.kept_tokens} per KV head ({human_bytes(stats.kv_bytes)}{elsewhere}); "
        f"wrote {stats.new_tokens} in {stats.decode_seconds:.1f} s ({write_rate:.0f} tok/s); "
        f"peak memory {human_bytes(stats.peak_memory_bytes)}",
        soft_wrap=True,
    )
