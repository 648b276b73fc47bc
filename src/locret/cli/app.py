"""The `locret` command."""

from __future__ import annotations

from collections.abc import Callable

import typer

from locret.allocator import hold_memory
from locret.cli.bench import bench_command
from locret.cli.common import guarded
from locret.cli.convert import convert_command
from locret.cli.demo import demo_command
from locret.cli.eval import eval_command
from locret.cli.generate import generate_command
from locret.cli.plan import plan_command
from locret.cli.process import end_on_signals, prepare_streams
from locret.cli.ruler import ruler_command
from locret.cli.score import score_command
from locret.cli.train import train_command

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo_command,
    "generate": generate_command,
    "train": train_command,
    "convert": convert_command,
    "eval": eval_command,
    "score": score_command,
    "ruler": ruler_command,
    "plan": plan_command,
    "bench": bench_command,
}

app = typer.Typer(
    help="Read documents of any length in fixed memory: trained heads say what the KV cache keeps.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _name, _command in COMMANDS.items():
    app.command(_name)(guarded(_name, _command))


def main() -> None:
    """Run the command line; exits 0 on success, 1 on failure, 2 on bad usage."""
    prepare_streams()
    end_on_signals()
    hold_memory()
    app(prog_name="locret")


if __name__ == "__main__":
    main()
