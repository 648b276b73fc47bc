"""`locret bench`: speed and memory of methods side by side, beside plain transformers and the limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from locret.cli.common import (
    LONGEST,
    MODELS,
    MOST_SEED,
    MOST_WIDTH,
    BudgetOption,
    ChunkOption,
    DeviceOption,
    DtypeOption,
    HeadsOption,
    JsonOption,
    LocalOption,
    PinFirstOption,
    PinNewestOption,
    PositionsOption,
    StabilizersOption,
    StaticOption,
    output,
)

if TYPE_CHECKING:
    from locret.bench.measure import Row


def bench_command(
    model: Annotated[
        str,
        typer.Option("--model", help=f"{MODELS}; with --random-weights a shape or config, too."),
    ] = "builtin",
    heads: HeadsOption = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Make the model and its heads at random: speed only.")
    ] = False,
    width: Annotated[int, typer.Option(min=1, max=MOST_WIDTH, help="Hidden width of random heads.")] = 1024,
    policies: Annotated[
        str, typer.Option(help="Methods, 'transformers' (plain, full attention) and 'limit', separated by commas.")
    ] = "locret,full,transformers,limit",
    lengths: Annotated[str, typer.Option(help="Tokens of the prompts, separated by commas.")] = "4096",
    budget: BudgetOption = None,
    chunk: ChunkOption = None,
    stabilizers: StabilizersOption = None,
    local: LocalOption = None,
    pin_first: PinFirstOption = None,
    pin_newest: PinNewestOption = None,
    positions: PositionsOption = "true",
    new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of each answer.")] = 32,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; medians are reported.")] = 3,
    static: StaticOption = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Where reading spends its time, and the roofline.")
    ] = False,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Of random weights and tokens.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Time reading and writing. In every round all methods take turns, so a busy machine meets all of them alike.

    'limit' reads the same chunks in the same memory with the same attention, and evicts at no cost: nothing is faster.
    """
    from locret.cli.lists import split, whole_number

    names = split(policies, "--policies", str)
    tokens = split(lengths, "--lengths", whole_number(1, LONGEST))
    with output(as_json) as out:
        from locret.bench.line_up import check_names, line_up
        from locret.bench.measure import compare
        from locret.cli.benching import (
            check_ids,
            load_for_bench,
            profiles,
            random_ids,
            setting,
            table,
            unreadable,
            watching,
        )
        from locret.cli.budget import prompt_budget

        units = prompt_budget(
            model, budget, chunk, stabilizers, local, positions, pin_first=pin_first, pin_newest=pin_newest
        )
        sized = budget is not None
        check_names(names, units, sized)
        check_ids(max(tokens))
        loaded = load_for_bench(model, heads, random_weights, width, dtype, device, seed)
        contestants = line_up(
            names, loaded.model, lambda name: loaded.policy(name, seed), units, new_tokens, sized, static
        )
        left_out = unreadable(out, contestants, tokens, new_tokens)
        tokens = tuple(length for length in tokens if length not in {row.length for row in left_out})
        ids = random_ids(loaded.model, max(tokens), seed)
        rows: list[Row] = []
        try:
            with watching(out.notes, sum(tokens) * len(names) * repeats, repeats) as watch:
                for length in tokens:
                    rows += compare(
                        contestants,
                        ids[:length],
                        repeats=repeats,
                        new_tokens=new_tokens,
                        device=loaded.model.device,
                        warm_up=min(length, 2 * units.chunk + units.local),
                        watch=watch,
                    )
        finally:  # what was measured before something went wrong, or somebody had enough, is told
            if rows:
                out.console.print(table(rows + left_out))
        out.result["results"] = [row.as_json(rows) for row in rows + left_out]
        out.result["setting"] = setting(loaded, units, model, random_weights) | {"static": static}
        if profile:
            profiles(out, loaded, contestants, ids, rows, units)
